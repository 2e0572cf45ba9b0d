"""Charts as SVG, without a library: lines, on a card of their own colour, so that they read the
same on a light page and on a dark one. Pure.

A card is narrow and its letters are large, so that it reads on a phone as well.
"""

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

import msgspec

INK, FAINT, CARD = "#1d2733", "#c9d1da", "#fbfaf7"
# Told apart without colour as well: by dashes and markers, and by the label at the line's end.
COLOURS = ("#1769aa", "#b3541e", "#3d7a35", "#7a3d7a")
DASHES = ("", "8 5", "2 4", "12 4 2 4")

WIDTH, PANEL, HEAD, LEFT, RIGHT, BOTTOM = 560, 300, 52, 70, 24, 46
# What is less is nothing: no figure is, and of such numbers there are no tenths.
LEAST = 1e-9
LETTER = 8.2  # how wide one is, about
# Lines of the grid: 1, 2 and 5 of each decade.
_STEPS = (1, 2, 5)


class Line(msgspec.Struct, frozen=True):
    name: str
    points: Sequence[tuple[float, float]]


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One picture. `ticks` name places on the x axis; on a logarithmic y axis what is less
    than `LEAST` is left out."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    is_logarithmic: bool = False
    ticks: Sequence[tuple[float, str]] = ()


def card(panels: Sequence[Panel]) -> str:
    """The panels, one below the other."""
    height = PANEL * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img"'
        f' font-family="sans-serif" font-size="15" fill="{INK}">',
        f"<title>{escape('; '.join(panel.title for panel in panels))}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="{CARD}"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [
            f'<g transform="translate(0 {number * PANEL})">',
            *_Drawing(panel).parts(),
            "</g>",
        ]
    return "\n".join([*parts, "</svg>", ""])


class _Drawing:
    def __init__(self, panel: Panel) -> None:
        self._panel = panel
        points = [point for line in panel.lines for point in line.points if self._is_shown(point)]
        self._is_empty = not points
        xs = [x for x, _ in points] + [x for x, _ in panel.ticks]
        ys = [y for _, y in points]
        self._low_x, self._high_x = min(xs, default=0.0), max(xs, default=1.0)
        self._marks = _grid(min(ys, default=1), max(ys, default=1), panel.is_logarithmic)
        # Two rows of names at the most, above what is drawn.
        self._top = HEAD + 24 * (1 + (self._names_width > WIDTH - LEFT - RIGHT))

    @property
    def _names_width(self) -> float:
        return sum(44 + LETTER * len(line.name) for line in self._panel.lines)

    def _is_shown(self, point: tuple[float, float]) -> bool:
        return point[1] >= LEAST or not self._panel.is_logarithmic

    def _x(self, x: float) -> float:
        span = self._high_x - self._low_x
        share = (x - self._low_x) / span if span else 0.5  # one place alone is in the middle
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def _y(self, y: float) -> float:
        low, high = self._marks[0], self._marks[-1]
        if self._panel.is_logarithmic:
            y, low, high = math.log10(y), math.log10(low), math.log10(high)
        bottom = PANEL - BOTTOM
        return bottom - (y - low) / ((high - low) or 1.0) * (bottom - self._top)

    def parts(self) -> list[str]:
        panel = self._panel
        parts = [
            f'<text x="16" y="24" font-size="17" font-weight="bold">{escape(panel.title)}</text>',
            f'<text x="16" y="46" font-size="14">{escape(panel.y)}</text>',
        ]
        for mark in self._marks:
            y = self._y(mark)
            parts += [
                f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="{FAINT}"/>',
                f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{_short(mark)}</text>',
            ]
        bottom = PANEL - BOTTOM
        for x, name in panel.ticks or self._own_ticks():
            if self._low_x <= x <= self._high_x:
                # All of a name is on the card, also of a long one at the end.
                at = min(self._x(x), WIDTH - LETTER * len(name) / 2 - 2)
                parts.append(
                    f'<text x="{at:.1f}" y="{bottom + 19}" text-anchor="middle">'
                    f"{escape(name)}</text>"
                )
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(
            f'<text x="{middle:.0f}" y="{PANEL - 8}" text-anchor="middle" font-size="14">'
            f"{escape(panel.x)}</text>"
        )
        if self._is_empty:
            parts.append(
                f'<text x="{middle:.0f}" y="{(self._top + bottom) / 2:.0f}" text-anchor="middle">'
                "Nothing was measured</text>"
            )
        return [
            *parts,
            *self._names(),
            *(p for n in range(len(panel.lines)) for p in self._line(n)),
        ]

    def _own_ticks(self) -> list[tuple[float, str]]:
        low, high = self._low_x, self._high_x
        return [(x, _short(x)) for x in ([low] if low == high else _grid(low, high))]

    def _names(self) -> list[str]:
        parts, x, y = [], float(LEFT), HEAD + 14
        for number, line in enumerate(self._panel.lines):
            width = 44 + LETTER * len(line.name)
            if x + width > WIDTH and x > LEFT:
                x, y = float(LEFT), y + 22
            parts += [
                f'<path d="M{x:.0f} {y - 5}h26" {_stroke(number)}/>',
                f'<text x="{x + 31:.0f}" y="{y}" font-size="14">{escape(line.name)}</text>',
            ]
            x += width
        return parts

    def _line(self, number: int) -> list[str]:
        points = [point for point in self._panel.lines[number].points if self._is_shown(point)]
        places = [f"{self._x(x):.1f} {self._y(y):.1f}" for x, y in points]
        if not places:
            return []
        parts = [f'<path d="M{"L".join(places)}" fill="none" {_stroke(number)}/>']
        if len(places) <= 12:
            parts += [
                f'<circle cx="{at.split()[0]}" cy="{at.split()[1]}" r="4"'
                f' fill="{COLOURS[number % len(COLOURS)]}"/>'
                for at in places
            ]
        return parts


def _stroke(number: int) -> str:
    dashes = DASHES[number % len(DASHES)]
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="2.5"{dashed}'


def _grid(low: float, high: float, is_logarithmic: bool = False) -> list[float]:
    """Round numbers, of which the first is not more and the last not less than what is shown."""
    if is_logarithmic:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        marks = [step * 10.0**decade for decade in range(first, last + 1) for step in _STEPS]
        if last - first > 2:
            marks = [10.0**decade for decade in range(first, last + 1)]
        below = [mark for mark in marks if mark <= low * 1.0001][-1:] or marks[:1]
        above = [mark for mark in marks if mark >= high * 0.9999][:1] or marks[-1:]
        if below == above:
            above = [next(mark for mark in marks if mark > below[0])]
        return [mark for mark in marks if below[0] <= mark <= above[0]]
    low = min(0.0, low)
    span = high - low if high - low >= LEAST else 1.0
    rough = span / 5
    decade = 10.0 ** math.floor(math.log10(rough))
    step = next(each * decade for each in (*_STEPS, 10) if each * decade >= rough * 0.9999)
    return [low + step * index for index in range(math.ceil(span / step * 0.9999) + 1)]


def _short(value: float) -> str:
    for least, unit in ((1e6, "M"), (1e4, "k")):
        if abs(value) >= least:
            return f"{value / (1e3 if unit == 'k' else 1e6):g}{unit}"
    return f"{value:.6g}"
