"""Charts as inline SVG: text and lines only, in the colours that the page's style sheet names.

Every chart is labelled for screen readers, scales with the page, and tells its series apart by
form (dashes, marks) as well as by colour. All text that comes in is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH = 720
"""Units of the drawing, not pixels: the page scales it."""
LEFT, RIGHT, BOTTOM = 84, 16, 50
DASHES = ("", "7 4", "2 3", "9 3 2 3")


STEEP = 20
"""A bar this many times the median one would make the others invisible."""


def histogram(
    edges: Sequence[float],
    kept: Sequence[int],
    dropped: Sequence[int],
    cut: float,
    x_label: str,
) -> str:
    """Return stacked bars of kept over dropped rows with a line at the cut.

    Where one bar towers over the others, heights are roots of the numbers, and the axis says so.

    Args:
        edges: borders of the bins, one more than there are bins.
        kept: rows of each bin that were kept.
        dropped: the other rows of each bin.
        cut: score of the last kept row.
        x_label: what the scores are.
    """
    height, top = 260, 28
    most = max((k + d for k, d in zip(kept, dropped, strict=True)), default=0)
    x = _Scale(edges[0], edges[-1], LEFT, WIDTH - RIGHT)
    filled = sorted(k + d for k, d in zip(kept, dropped, strict=True) if k + d)
    is_steep = bool(filled) and most > STEEP * filled[len(filled) // 2]
    y = _Scale(0, max(most, 1), height - BOTTOM, top, power=0.5 if is_steep else 1.0)
    y_label = "rows (square-root scale)" if is_steep else "rows"
    parts = _axes(x, y, height, top, x_label, y_label)
    for left, right, k, d in zip(edges[:-1], edges[1:], kept, dropped, strict=True):
        span = (x(left) + 0.5, max(x(right) - x(left) - 1, 0.5))
        # A bin with a single row stays visible under one with a million.
        floor, below = y(0), 0
        for n_rows, name in ((d, "dropped"), (k, "kept")):
            if n_rows:
                tall = max(y(below) - y(below + n_rows), 2.0)
                floor -= tall
                below += n_rows
                parts.append(
                    f'<rect class="bar-{name}" x="{span[0]:.1f}" y="{floor:.1f}" '
                    f'width="{span[1]:.1f}" height="{tall:.1f}"/>'
                )
    at = x(cut)
    side = "end" if at > WIDTH / 2 else "start"
    parts.append(
        f'<line class="cut" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 8}" y2="{height - BOTTOM}"/>'
        f'<text class="cut-label" x="{at + (-6 if side == "end" else 6):.1f}" y="{top - 12}" '
        f'text-anchor="{side}">cut at {cut:.3f}: {sum(kept):,} rows kept</text>'
    )
    summary = (
        f"Histogram of {sum(kept) + sum(dropped):,} scores from {edges[0]:.3f} to {edges[-1]:.3f}; "
        f"the cut is at {cut:.3f}, {sum(kept):,} rows are kept"
    )
    return _svg(parts, height, summary)


def lines(
    series: Mapping[str, Sequence[tuple[str, Sequence[tuple[float, float]]]]],
    x_label: str,
    y_label: str,
) -> str:
    """Return curves, one colour and dash per group, its name once at the end of a curve.

    Args:
        series: by group (an arm), its curves as (name, points).
        x_label: what the first number of a point is, with its unit.
        y_label: what the second is.
    """
    height, top = 280, 16
    points = [point for curves in series.values() for _, curve in curves for point in curve]
    lowest, highest = min(y for _, y in points), max(y for _, y in points)
    margin = (highest - lowest) * 0.08 or 0.05
    x = _Scale(0, max(x for x, _ in points), LEFT, WIDTH - RIGHT)
    y = _Scale(lowest - margin, highest + margin, height - BOTTOM, top)
    parts = _axes(x, y, height, top, x_label, y_label)
    for number, (group, curves) in enumerate(series.items()):
        dash = f' stroke-dasharray="{DASHES[number % 4]}"' if number % 4 else ""
        for name, curve in curves:
            path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in curve)
            marks = "".join(_mark(number, x(a), y(b)) for a, b in curve)
            parts.append(
                f'<g class="series-{number % 4}"><title>{escape(group)}, {escape(name)}</title>'
                f'<polyline points="{path}"{dash}/>{marks}</g>'
            )
    summary = f"{y_label} over {x_label}: " + "; ".join(
        f"{group} ends at " + ", ".join(f"{curve[-1][1]:.3f}" for _, curve in curves)
        for group, curves in series.items()
    )
    return _svg(parts, height, summary)


def dots(
    values: Mapping[str, Sequence[float]], x_label: str, line: tuple[str, float] | None
) -> str:
    """Return one row of marks per group with a bar at its mean, and a line across for reference.

    Args:
        values: numbers by group.
        x_label: what they are.
        line: name and value of the reference, if there is one.
    """
    top, step = 30, 40
    height = top + step * len(values) + BOTTOM
    numbers = [value for found in values.values() for value in found]
    numbers += [line[1]] if line else []
    margin = (max(numbers) - min(numbers)) * 0.08 or 0.05
    x = _Scale(min(numbers) - margin, max(numbers) + margin, 190, WIDTH - RIGHT)
    parts = _x_axis(x, height, top, x_label)
    if line:
        at = x(line[1])
        side = "end" if at > WIDTH * 0.6 else "start"
        parts.append(
            f'<line class="reference" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 6}" '
            f'y2="{height - BOTTOM}"/><text x="{at:.1f}" y="{top - 12}" text-anchor="{side}">'
            f"{escape(line[0])}</text>"
        )
    for number, (group, found) in enumerate(values.items()):
        middle = top + step * (number + 0.5)
        mean = sum(found) / len(found)
        parts.append(
            f'<text x="176" y="{middle + 5:.1f}" text-anchor="end">{escape(group)}</text>'
            f'<g class="series-{number % 4}">'
            f'<line class="mean" x1="{x(mean):.1f}" x2="{x(mean):.1f}" y1="{middle - 12:.1f}" '
            f'y2="{middle + 12:.1f}"/>{"".join(_mark(number, x(v), middle) for v in found)}</g>'
        )
    summary = f"{x_label} by arm: " + "; ".join(
        f"{group} {', '.join(f'{value:.3f}' for value in found)}" for group, found in values.items()
    )
    return _svg(parts, height, summary)


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from `low` to `high`, at most about `most`, evenly spaced."""
    raw = (high - low) / max(most - 1, 1)
    if not raw > 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


class _Scale:
    """Numbers to places in the drawing."""

    def __init__(
        self, low: float, high: float, start: float, end: float, power: float = 1.0
    ) -> None:
        self.low, self.high, self.start, self.end, self.power = low, high, start, end, power

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        if self.power != 1:
            share = max(share, 0.0) ** self.power
        return self.start + share * (self.end - self.start)


def _axes(x: _Scale, y: _Scale, height: int, top: int, x_label: str, y_label: str) -> list[str]:
    parts = _x_axis(x, height, top, x_label)
    for tick in ticks(y.low, y.high, 5):
        at = y(tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
        )
    middle = (top + height - BOTTOM) / 2
    parts.append(
        f'<text class="axis-label" transform="translate(16 {middle:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    return parts


def _x_axis(x: _Scale, height: int, top: int, label: str) -> list[str]:
    floor = height - BOTTOM
    parts = [f'<line class="axis" x1="{x.start}" x2="{x.end}" y1="{floor}" y2="{floor}"/>']
    for tick in ticks(x.low, x.high, 8):
        at = x(tick)
        parts.append(
            f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{floor}" y2="{floor + 4}"/>'
            f'<text x="{at:.1f}" y="{floor + 20}" text-anchor="middle">{_number(tick)}</text>'
        )
    parts.append(
        f'<text class="axis-label" x="{(x.start + x.end) / 2:.0f}" y="{height - 6}" '
        f'text-anchor="middle">{escape(label)}</text>'
    )
    return parts


def _mark(number: int, x: float, y: float) -> str:
    """Return a circle, square, triangle or diamond."""
    if number % 4 == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'
    if number % 4 == 1:
        return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>'
    corners = (
        ((0, -5.5), (5, 4), (-5, 4)) if number % 4 == 2 else ((0, -6), (5, 0), (0, 6), (-5, 0))
    )
    return f'<polygon points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}"/>'


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _svg(parts: Sequence[str], height: int, summary: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(summary)}">'
        f"{''.join(parts)}</svg>"
    )
