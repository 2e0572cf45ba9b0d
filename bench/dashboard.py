"""Draws the dashboard of deploy/grafana as a Prometheus has it, without Grafana.

python bench/dashboard.py --url http://127.0.0.1:9090 --minutes 10 --out dashboard.svg
"""

import argparse
import json
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

BOARD = Path(__file__).parents[1] / "deploy" / "grafana" / "sts-trio.json"
COLUMNS = 3
# Grafana's own variables, as it fills them in for all jobs and processes.
VARIABLES = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m"}
UNITS = {"s": "s", "percentunit": "of 1", "cps": "a second", "bytes": "bytes", "short": ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("dashboard.svg"))
    given = parser.parse_args()
    board = json.loads(BOARD.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] == "timeseries"]
    rows = -(-len(panels) // COLUMNS)
    figure, places = plt.subplots(rows, COLUMNS, figsize=(15, 2.6 * rows), squeeze=False)
    until = time.time()
    since = until - 60 * given.minutes
    for panel, place in zip(panels, places.flat, strict=False):
        draw(panel, place, given.url, since, until)
    for place in list(places.flat)[len(panels) :]:
        place.axis("off")
    figure.tight_layout()
    figure.savefig(given.out)


def draw(panel: dict[str, Any], place: Any, url: str, since: float, until: float) -> None:
    for target in panel["targets"]:
        for series in ask(url, target["expr"], since, until):
            at = [(float(when) - since) / 60 for when, _ in series["values"]]
            label = target["legendFormat"]
            for name, value in series["metric"].items():
                label = label.replace(f"{{{{{name}}}}}", value)
            place.plot(at, [float(value) for _, value in series["values"]], label=label)
    place.set_title(panel["title"], fontsize=9)
    place.set_ylabel(UNITS[panel["fieldConfig"]["defaults"]["unit"]], fontsize=8)
    place.set_xlim(0, (until - since) / 60)
    place.set_ylim(bottom=0)
    place.tick_params(labelsize=7)
    if place.lines:
        place.legend(fontsize=6, loc="upper left")
    else:
        place.text(0.5, 0.5, "nothing", ha="center", transform=place.transAxes, fontsize=8)


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
