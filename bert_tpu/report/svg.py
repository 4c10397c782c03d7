"""Draws a Chart as SVG with the page's colours and with text as text. Equal charts give equal SVG."""

import html
import io
import re
from typing import TYPE_CHECKING, Any

from bert_tpu.report import curves

if TYPE_CHECKING:
    from matplotlib import axes, ticker

SIZE = 4.6, 2.9  # inches: on a phone of 360 pixels, 10 points are 11 pixels
# The palette of Okabe and Ito, which colour-blind people can tell apart. Each name has a light and a dark colour.
SERIES = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9"
INK, MUTED, RULE = "#1c1c1c", "#6a6a6a", "#dadada"
NAMES = {color: f"var(--series-{number})" for number, color in enumerate(SERIES)}
NAMES |= {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)"}
DASHES = "-", (0, (4, 1.6)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5))
MARKERS = "o", "s", "^", "D"
SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none", "font.size": 10, "font.family": "sans-serif", "text.color": INK, "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED, "xtick.color": MUTED, "ytick.color": MUTED, "grid.color": RULE, "axes.linewidth": 0.8,
    "axes.axisbelow": True,
}  # fmt: skip
CLOSEST = 0.085  # least distance of two labels at the ends of lines, as a share of the height


def draw(chart: curves.Chart, name: str) -> str:
    """An <svg> element. name: unique on the page; the element's ids contain it."""
    import matplotlib
    from matplotlib import figure, ticker

    with matplotlib.rc_context(SETTINGS | {"svg.hashsalt": name}):
        drawing = figure.Figure(figsize=SIZE, layout="constrained")
        axis = drawing.add_subplot()
        for line in chart.lines:
            _line(axis, line)
        for level in chart.levels:
            color = MUTED if level.color is None else _color(level.color)
            axis.axhline(level.value, color=color, linewidth=1.1, linestyle=(0, (5, 3)), zorder=1)
        if chart.from_zero:
            axis.set_ylim(bottom=0)
        axis.margins(x=0.02)
        axis.set_xlabel("step")
        axis.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
        axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axis.yaxis.set_major_locator(ticker.MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)))
        axis.yaxis.set_major_formatter(_value_formatter(chart))
        axis.grid(axis="y", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
        _label(axis, chart.lines)
        file = io.StringIO()
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawing.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    return _for_page(file.getvalue(), chart.title)


def _line(axis: "axes.Axes", line: curves.Line) -> None:
    is_point = len(line.steps) == 1
    if line.is_markers:
        style: dict[str, Any] = {
            "linestyle": "none",
            "marker": MARKERS[line.form % len(MARKERS)],
            "markersize": 4.5,
            "zorder": 3,
        }
    else:
        style = {"linestyle": DASHES[line.form % len(DASHES)], "linewidth": 1.6, "marker": "." if is_point else None}
    axis.plot(line.steps, line.values, color=_color(line.color), **style)


def _color(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _value_formatter(chart: curves.Chart) -> "ticker.Formatter":
    from matplotlib import ticker

    if chart.is_share:
        return ticker.FuncFormatter(lambda y, _: f"{100 * y:.4g}%")
    high = max((value for line in chart.lines for value in line.values), default=0)
    if high >= 1000:
        return ticker.FuncFormatter(lambda y, _: f"{y:,.0f}")
    if high < 5e-4:
        return ticker.FuncFormatter(lambda y, _: f"{y:.1e}".replace(".0e", "e") if y else "0")
    return ticker.FuncFormatter(lambda y, _: f"{y:.4g}")


def _label(axis: "axes.Axes", lines: list[curves.Line]) -> None:
    """Writes each label next to the last point of its first line, so that labels do not overlap."""
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    ends: dict[str, tuple[float, float, str]] = {}
    for line in lines:
        if line.label:
            x, y = (line.steps[-1] - left) / (right - left), (line.values[-1] - low) / (high - low)
            ends.setdefault(line.label, (x if x < 0.8 else 0.98, y, _color(line.color)))
    placed, last = [], -CLOSEST
    for label, (x, y, color) in sorted(ends.items(), key=lambda item: item[1][1]):
        last = max(y, last + CLOSEST)
        placed.append((label, x, last, color))
    down = max(0.0, last - 1.0)  # labels that would be above the chart all move down
    for label, x, y, color in placed:
        axis.annotate(
            label, (x + 0.035, y - down), xycoords="axes fraction", color=color, va="center", fontsize=10,
            fontweight="bold", annotation_clip=False,
        )  # fmt: skip


def _for_page(text: str, title: str) -> str:
    """The <svg> element of an SVG file, without its unused ids, and with the page's names for colours."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in used else "", text)
    for color, name in NAMES.items():
        text = text.replace(color, name)
    [box] = re.findall(r'viewBox="[^"]*"', text)
    head = f'<svg {box} role="img" aria-label="{html.escape(title)}">'
    return head + text[text.index(">") + 1 :].strip()
