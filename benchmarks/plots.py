"""Time against the number of parameters, drawn log-log."""

import io
from collections.abc import Sequence
from pathlib import Path

from plan import Contest, Entry
from rounds import Figure


_STOCK, _PATCHED = "#b5432e", "#1f6f8b"
_STYLES = ("-", "--", ":", "-.")
_MARKS = ("o", "s", "^", "D")


def draw(contest: Contest, figures: Sequence[Figure], path: Path) -> None:
    """Draw a contest.

    Args:
        contest (Contest): what was measured.
        figures (sequence of Figure): among them, this contest's.
        path (Path): the PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter
    from PIL import Image

    figure, axes = pyplot.subplots(figsize=(7, 4.4), layout="constrained")
    for kind, color in (("stock", _STOCK), ("patched", _PATCHED)):
        entries = [e for e in contest.entries if e.kind == kind]
        for entry, style, mark in zip(entries, _STYLES, _MARKS):
            points = sorted(
                (f.size, f.median)
                for f in figures
                if (f.contest, f.label) == (contest.key, entry.label)
            )
            if points:
                sizes, seconds = zip(*points)
                axes.plot(
                    sizes,
                    seconds,
                    style,
                    marker=mark,
                    markersize=5,
                    color=color,
                    markerfacecolor=color if style == "-" else "white",
                    label=_label(entry),
                )
    axes.set(xscale="log", yscale="log", xlabel="parameters", ylabel="seconds a call")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.set_title(contest.title.replace("`", ""), loc="left")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    # A palette makes the file a third as large.
    with io.BytesIO() as drawn:
        figure.savefig(drawn, dpi=110)
        pyplot.close(figure)
        image = Image.open(drawn).convert("RGB").quantize(64)
    image.save(path, optimize=True)


def _label(entry: Entry) -> str:
    label = entry.label.removeprefix("stock ")
    if label.startswith("torchrec"):
        return label
    torch = "PyTorch 2.13.0" if entry.kind == "stock" else "with the series"
    return f"{torch}, {label}"
