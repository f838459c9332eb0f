"""Panels of curves and bars as PNG files, the legend below them; the same input gives the same bytes.

Apart from curves.py, which every training imports: what is changed here changes the source of no record.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .curves import STYLE, WIDEST, _write_figure

NARROW = 5.6  # inches, of a single panel
LINE = 0.27  # inches, the height of a legend's line
MARKERS = 15  # at most this many on a curve


def panel_figure(
    path: Path | str,
    *,
    x: Sequence[float],
    panels: Mapping[str, Mapping[str, Sequence[float | None]]],
    x_label: str,
    title: str = "",
    borders: Sequence[float] = (),
) -> Path:
    """Named series over the values x, in a panel of its own for each y label, two in a row; None is a gap.

    A series has one colour, marker and dash in all panels, which no other has. borders: values of x with a dotted line,
    such as those between phases.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDEST if columns > 1 else NARROW, 3.4 * rows + LINE * (len(names) + 1)))
        places = np.ravel(figure.subplots(rows, columns))
        for empty in places[len(panels) :]:
            empty.axis("off")
        styles = dict(zip(names, _line_styles(), strict=False))
        for axes, (label, series) in zip(places, panels.items(), strict=False):
            for name, values in series.items():
                axes.plot(x, np.array(values, dtype=float), label=name, markevery=-(-len(x) // MARKERS), **styles[name])
            for border in borders:
                axes.axvline(border, color="black", linestyle=":", linewidth=1, marker="")
            axes.set(xlabel=x_label, ylabel=label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _legend_below(figure, places[: len(panels)])
        figure.suptitle(title)
        return _write_figure(figure, path)


def _line_styles() -> Iterator[dict[str, str]]:
    """Without end: the style's colours and markers, then its colours dashed, each with the next one's marker."""
    colours, markers = (matplotlib.rcParams["axes.prop_cycle"].by_key()[key] for key in ("color", "marker"))
    for again in itertools.count():
        for number, colour in enumerate(colours):
            marker, dash = markers[(number + again) % len(markers)], ("-", "--", ":")[again % 3]
            yield {"color": colour, "marker": marker, "linestyle": dash}


def bar_figure(
    path: Path | str, *, x: Sequence[str], series: Mapping[str, Sequence[float]], x_label: str, y_label: str
) -> Path:
    """Named series of bars side by side at each word of x; a dashed line marks the first word's first bar."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(min(max(NARROW, 1.1 * len(x)), WIDEST), 4.2 + LINE * len(series)))
        axes = figure.subplots()
        places, width = np.arange(len(x)), 0.8 / len(series)
        for number, (name, values) in enumerate(series.items()):
            axes.bar(places + (number - (len(series) - 1) / 2) * width, values, width, label=name)
        axes.axhline(next(iter(series.values()))[0], color="black", linestyle="--", linewidth=1, marker="")
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xticks(places, x, rotation=30, ha="right")
        _legend_below(figure, [axes])
        return _write_figure(figure, path)


def _legend_below(figure: Figure, places: Sequence[Axes]) -> None:
    """One line for each name of the panels, each once."""
    found = {}
    for axes in places:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(name, handle)
    figure.legend(found.values(), found.keys(), loc="outside lower center")
