"""Charts as SVG, without a library: bars with a line at 1, bars in groups, and curves on logarithmic scales."""

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 760
LABEL, RIGHT = 250, 70  # pixels to the left and right of the bars
ROW, GAP = 22, 8
COLOURS = ("#2f6f9f", "#c8553d", "#588157", "#8d6a9f", "#b08900", "#30343f")
STYLE = "font-family:ui-sans-serif,system-ui,sans-serif;font-size:12px"


def _svg(height: float, parts: Sequence[str], title: str) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'role="img" aria-label="{escape(title)}" style="{STYLE}">'
    )
    ground = f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>'
    name = f'<text x="16" y="24" style="font-size:15px;font-weight:600" fill="#222">{escape(title)}</text>'
    return "\n".join((head, ground, name, *parts, "</svg>")) + "\n"


def bars(title: str, rows: Sequence[tuple[str, float, float, float, float]], note: str = "") -> str:
    """A bar for each row (label, value, lowest, highest, goal; 0 for none). There is a line at 1 and a tick at each goal."""
    most = max([1.2, *(max(high, asked) for _, _, _, high, asked in rows)]) * 1.02
    scale = (WIDTH - LABEL - RIGHT) / most
    top = 44
    height = top + len(rows) * (ROW + GAP) + 34
    one = LABEL + scale
    parts = []
    for at, (label, value, low, high, asked) in enumerate(rows):
        y = top + at * (ROW + GAP)
        colour = COLOURS[0] if not asked or value >= asked else COLOURS[1]
        parts += [
            f'<text x="{LABEL - 10}" y="{y + 15}" text-anchor="end" fill="#222">{escape(label)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{value * scale:.1f}" height="{ROW}" rx="2" fill="{colour}"/>',
            f'<line x1="{LABEL + low * scale:.1f}" x2="{LABEL + min(high, most) * scale:.1f}" y1="{y + ROW / 2}" y2="{y + ROW / 2}" '
            'stroke="#222" stroke-width="1.2"/>',
            f'<text x="{WIDTH - RIGHT + 12}" y="{y + 15}" fill="#222">{value:.2f}</text>',
        ]
        if asked:
            x = LABEL + asked * scale
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 3}" y2="{y + ROW + 3}" stroke="#222" stroke-width="2"/>')
    bottom = top + len(rows) * (ROW + GAP)
    parts.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="{top - 6}" y2="{bottom}" stroke="#888" stroke-dasharray="4 3"/>')
    parts.append(f'<text x="{LABEL}" y="{bottom + 18}" fill="#555">{escape(note)}</text>')
    return _svg(height, parts, title)


def pairs(title: str, rows: Mapping[str, Mapping[str, float]], note: str = "") -> str:
    """A group of bars for each row, one bar for each name, followed by its figure. The longest bar of each group has the full width."""
    top, thick = 44, 15
    width = WIDTH - LABEL - RIGHT - 90
    parts, y = [], float(top)
    for label, values in rows.items():
        parts.append(f'<text x="{LABEL - 10}" y="{y + len(values) * thick / 2 + 4}" text-anchor="end" fill="#222">{escape(label)}</text>')
        most = max(values.values())
        for at, (name, value) in enumerate(values.items()):
            parts += [
                f'<rect x="{LABEL}" y="{y}" width="{value / most * width:.1f}" height="{thick - 2}" rx="2" fill="{COLOURS[at]}"/>',
                f'<text x="{LABEL + value / most * width + 8:.1f}" y="{y + 11}" fill="#222">{escape(name)} {value:,.0f}</text>',
            ]
            y += thick
        y += GAP * 1.5
    parts.append(f'<text x="{LABEL}" y="{y + 12}" fill="#555">{escape(note)}</text>')
    return _svg(y + 28, parts, title)


def curves(title: str, unit: str, across: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """A line for each name through its points (x, y), on two logarithmic scales."""
    left, top, width, depth = 64, 44, WIDTH - 64 - 130, 260
    xs = [x for points in lines.values() for x, _ in points]
    ys = [y for points in lines.values() for _, y in points if y > 0]
    low_x, high_x = math.log10(min(xs)), math.log10(max(xs))
    low_y, high_y = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)) + 1e-9)

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (math.log10(x) - low_x) / max(high_x - low_x, 1e-9) * width,
            top + depth - (math.log10(y) - low_y) / max(high_y - low_y, 1) * depth,
        )

    parts = []
    for power in range(low_y, high_y + 1):
        _, y = place(10**low_x, 10.0**power)
        parts += [
            f'<line x1="{left}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{_short(10.0**power)}</text>',
        ]
    for x_value in sorted(set(xs)):
        x, _ = place(x_value, 10.0**low_y)
        parts.append(f'<text x="{x:.1f}" y="{top + depth + 18}" text-anchor="middle" fill="#555">{_short(x_value)}</text>')
    for at, (name, points) in enumerate(lines.items()):
        colour = COLOURS[at % len(COLOURS)]
        places = [place(x, y) for x, y in points if y > 0]
        parts.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
        )
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        x, y = left + width + 14, top + 10 + at * 20
        parts += [
            f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>',
            f'<text x="{x + 16}" y="{y}" fill="#222">{escape(name)}</text>',
        ]
    parts.append(f'<text x="{left + width / 2}" y="{top + depth + 38}" text-anchor="middle" fill="#555">{escape(across)}</text>')
    parts.append(f'<text x="16" y="{top - 6}" fill="#555">{escape(unit)}</text>')
    return _svg(top + depth + 52, parts, title)


def _short(number: float) -> str:
    """1000 as 1K."""
    for power, letter in ((9, "G"), (6, "M"), (3, "K")):
        if number >= 10**power:
            return f"{number / 10**power:g}{letter}"
    return f"{number:g}"
