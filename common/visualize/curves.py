"""Training curves and sweeps as PNG files; the same input gives the same bytes.

The colours are those of Okabe and Ito, which colour-blind readers can tell apart.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common.errors import UserError

CURVE_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
CURVE_MARKERS = "osD^vP*"
WIDEST = 7.5  # inches, 825 pixels: GitHub shows a wider figure smaller, and its text with it
STYLE = {
    "font.size": 12,
    "axes.prop_cycle": matplotlib.cycler(color=CURVE_COLOURS, marker=list(CURVE_MARKERS)),
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.3,
    "lines.markersize": 5,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def training_curves(log: Sequence[Mapping[str, float]], path: Path | str) -> Path:
    """Loss terms, learning rate and, where the log has them, scores over the epochs.

    log: one dict per epoch with `epoch`, `learning_rate`, `loss` and `..._loss`, and at some epochs `mAP` and `rank1`,
    fractions that are drawn in percent. Other entries are not drawn.
    """
    if not log:
        raise UserError(f"no epoch in the log: nothing to draw in {path}")
    names = list(dict.fromkeys(name for entry in log for name in entry))
    losses = [name for name in names if name == "loss" or name.endswith("_loss")]
    panels = {"loss": losses, "learning rate": ["learning_rate"], "score (%)": ["mAP", "rank1"]}
    panels = {label: [name for name in drawn if name in names] for label, drawn in panels.items()}
    panels = {label: drawn for label, drawn in panels.items() if drawn}
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(4.2 * len(panels), 3.6))
        for axes, (label, drawn) in zip(np.ravel(figure.subplots(1, len(panels))), panels.items(), strict=True):
            for name in drawn:
                points = [(entry["epoch"], entry[name]) for entry in log if entry.get(name) is not None]
                epochs, values = np.array(points, dtype=float).T
                axes.plot(
                    epochs, values * (100 if "%" in label else 1), label=name, markevery=max(1, len(epochs) // 12)
                )
            axes.set(xlabel="epoch", ylabel=label, xlim=(0, 1.03 * log[-1]["epoch"]))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            if label == "learning rate":
                axes.set_yscale("log")
            else:
                axes.legend()
        return _write_figure(figure, path)


def line_figure(
    path: Path | str,
    *,
    x: Sequence,
    series: Mapping[str, Sequence[float | None]],
    x_label: str,
    y_label: str,
    deviations: Mapping[str, Sequence[float | None]] | None = None,
    title: str = "",
) -> Path:
    """Named series over the values x, such as a parameter sweep; deviations: standard deviations, drawn as error bars.

    x: numbers, or evenly spaced words. None in a series is a gap (a missing run).
    """
    deviations = deviations or {}
    for name, values in (*series.items(), *deviations.items()):
        if name not in series or len(values) != len(x):
            raise UserError(f"{name!r}: {len(values)} values for {len(x)} of x, or not one of: {', '.join(series)}")
    with matplotlib.style.context(["default", STYLE]):
        crowded = len(series) > 4  # the legend would cover the curves, so it goes below them
        figure = Figure(figsize=(5.6, 4.0 + 0.25 * len(series) * crowded))
        axes = figure.subplots()
        for name, values in series.items():
            error = np.array(deviations[name], dtype=float) if name in deviations else None
            axes.errorbar(x, np.array(values, dtype=float), error, label=name, capsize=3)
        axes.set(xlabel=x_label, ylabel=y_label, title=title, xticks=x)
        if crowded:
            figure.legend(loc="outside lower center")
        else:
            axes.legend()
        return _write_figure(figure, path)


# The pages draw with panels.py's panel_figure and bar_figure. These two go with the next change of this file: every
# training imports it, so that without them all records would be of another source.
def panel_figure(
    path: Path | str,
    *,
    x: Sequence,
    panels: Mapping[str, Mapping[str, Sequence[float | None]]],
    x_label: str,
    title: str = "",
    borders: Sequence[float] = (),
) -> Path:
    """Named series over the values x, in a panel of its own for each y label, two in a row; None is a gap. borders:
    values of x with a dotted line, such as those between phases."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDEST if columns > 1 else 5.6, 3.6 * rows))
        places = np.ravel(figure.subplots(rows, columns))
        for empty in places[len(panels) :]:
            empty.axis("off")
        for axes, (label, series) in zip(places, panels.items(), strict=False):
            for name, values in series.items():
                axes.plot(x, np.array(values, dtype=float), label=name)
            for border in borders:
                axes.axvline(border, color="black", linestyle=":", linewidth=1, marker="")
            axes.set(xlabel=x_label, ylabel=label, xticks=x)
            axes.legend()
        figure.suptitle(title)
        return _write_figure(figure, path)


def bar_figure(
    path: Path | str, *, x: Sequence[str], series: Mapping[str, Sequence[float]], x_label: str, y_label: str
) -> Path:
    """Named series of bars side by side at each word of x; a dashed line marks the first word's first bar."""
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(min(max(5.6, 1.1 * len(x)), WIDEST), 4.2))
        axes = figure.subplots()
        places, width = np.arange(len(x)), 0.8 / len(series)
        for number, (name, values) in enumerate(series.items()):
            axes.bar(places + (number - (len(series) - 1) / 2) * width, values, width, label=name)
        axes.axhline(next(iter(series.values()))[0], color="black", linestyle="--", linewidth=1, marker="")
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.set_xticks(places, x, rotation=30, ha="right")
        axes.legend()
        return _write_figure(figure, path)


def _write_figure(figure: Figure, path: Path | str) -> Path:
    """Omits matplotlib's version, which would change the bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
    return path
