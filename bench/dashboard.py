"""Draws the dashboard of deploy/grafana as a Prometheus has it, without Grafana.

python bench/dashboard.py --url http://127.0.0.1:9090 --minutes 10 --out dashboard.png

Panels in which nothing happened are left out, and named below the others.
"""

import argparse
import json
import math
import textwrap
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt

BOARD = Path(__file__).parents[1] / "deploy" / "grafana" / "sts-trio.json"
COLUMNS = 3
# Grafana's own variables, as it fills them in for all jobs and processes.
VARIABLES = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m"}
# {Grafana's unit: what a value is divided by, and then is}
UNITS = {
    "s": (1, "s"),
    "percentunit": (1, "of 1"),
    "cps": (1, "a second"),
    "bytes": (1e6, "MB"),
    "short": (1, ""),
}
Series = tuple[str, list[tuple[float, float]]]  # its label, and when it was what


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--until", type=float, help="seconds since 1970; else now")
    parser.add_argument("--out", type=Path, default=Path("dashboard.png"))
    given = parser.parse_args()
    board = json.loads(BOARD.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] == "timeseries"]
    until = given.until or time.time()
    since = until - 60 * given.minutes
    drawn, empty = [], []
    for panel in panels:
        series = read(panel, given.url, since, until)
        if any(value for _, values in series for _, value in values):
            drawn.append((panel, series))
        else:
            empty.append(panel["title"])
    rows = -(-len(drawn) // COLUMNS)
    figure, places = plt.subplots(rows, COLUMNS, figsize=(15, 2.6 * rows + 0.5), squeeze=False)
    for (panel, series), place in zip(drawn, places.flat, strict=False):
        draw(panel, series, place, given.minutes)
    for place in list(places.flat)[len(drawn) :]:
        place.axis("off")
    figure.tight_layout(rect=(0, 0.5 / (2.6 * rows + 0.5), 1, 1))
    words = f"Nothing happened in: {', '.join(empty)}"
    figure.text(0.01, 0.01, "\n".join(textwrap.wrap(words, 190)), fontsize=8, va="bottom")
    figure.savefig(given.out, dpi=70)


def read(panel: dict[str, Any], url: str, since: float, until: float) -> list[Series]:
    found: list[Series] = []
    for target in panel["targets"]:
        for series in ask(url, target["expr"], since, until):
            label = target["legendFormat"]
            for name, value in series["metric"].items():
                label = label.replace(f"{{{{{name}}}}}", value)
            told = [(float(at) - since, float(value)) for at, value in series["values"]]
            found.append((label, [each for each in told if math.isfinite(each[1])]))
    return found


def draw(panel: dict[str, Any], series: list[Series], place: Any, minutes: float) -> None:
    divisor, unit = UNITS[panel["fieldConfig"]["defaults"]["unit"]]
    for label, values in series:
        place.plot(
            [at / 60 for at, _ in values], [each / divisor for _, each in values], label=label
        )
    place.set_title(panel["title"], fontsize=9)
    place.set_ylabel(unit, fontsize=8)
    place.set_xlim(0, minutes)
    place.set_ylim(bottom=0)
    place.tick_params(labelsize=7)
    place.legend(fontsize=6, loc="best")


def ask(url: str, expression: str, since: float, until: float) -> list[Any]:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    fields = {"query": expression, "start": since, "end": until, "step": (until - since) / 120}
    with urllib.request.urlopen(
        f"{url}/api/v1/query_range?{urllib.parse.urlencode(fields)}"
    ) as got:
        told = json.load(got)
    return list(told["data"]["result"])


if __name__ == "__main__":
    main()
