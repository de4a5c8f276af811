"""The table that a run prints, in Markdown."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plan import Contest
from rounds import Figure
from targets import Verdict


_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))

LEGEND = (
    "Each cell: the median processor time of a call; ± half the interquartile range of "
    "the rounds, in percent; and how many times faster than in the column named in "
    "the header (the median of the rounds' ratios). A dash is a call that takes many "
    "seconds, and is left out."
)


def duration(seconds: float) -> str:
    """A time with three digits and a unit that suits it."""
    scale, unit = next((u for u in _UNITS if seconds >= u[0]), _UNITS[-1])
    return f"{seconds / scale:.3g} {unit}" if seconds < 1000 else f"{seconds:.0f} s"


def contest_table(contest: Contest, figures: Iterable[Figure]) -> str:
    """The figures of a contest.

    Args:
        contest (Contest): what was measured.
        figures (iterable of Figure): among them, this contest's.

    Returns:
        str: a heading and a table, with a row for each size, and a column for each
        entry that was measured; or a row for each pair of entries.
    """
    found = {(f.size, f.label): f for f in figures if f.contest == contest.key}
    sizes = sorted({size for size, _ in found})
    if contest.by_entry:
        return "\n\n".join(_pairs(contest, size, found) for size in sizes)
    labels = {label for _, label in found}
    entries = [e for e in contest.entries if e.label in labels]
    headers = [f"{e.label} (/ {e.against})" if e.against else e.label for e in entries]
    rows = [
        [f"{size:,}", *(_cell(found.get((size, e.label))) for e in entries)]
        for size in sizes
    ]
    return f"### {contest.title}\n\n" + table(["parameters", *headers], rows)


def _pairs(contest: Contest, size: int, found: Mapping[tuple[int, str], Figure]) -> str:
    rows = [
        [
            entry.label,
            _cell(found.get((size, entry.against))),
            _cell(found.get((size, entry.label))),
        ]
        for entry in contest.entries
        if entry.against and (size, entry.label) in found
    ]
    title = f"### {contest.title}, {size:,} parameters\n\n"
    return title + table(["", "stock", "patched (/ stock)"], rows)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    text = f"{duration(figure.median)} ±{figure.spread * 50:.0f}%"
    return text if figure.speedup is None else f"{text}, {figure.speedup:.3g}x"


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """The targets, what was found, and whether it meets them."""
    words = {True: "met", False: "**missed**", None: "-"}
    rows = [[v.target, v.found, words[v.met]] for v in verdicts]
    return "### Targets\n\n" + table(["target", "found", ""], rows)


def memory_table(memory: Mapping[str, Mapping[str, Any]]) -> str:
    """The memory of loads, in bytes per parameter."""
    rows = [
        [kind, load, *(f"{values[key]:.0f}" for key in ("peak", "kept", "extra"))]
        for kind, loads in memory.items()
        for load, values in loads.items()
    ]
    headers = ["torch", "load", "at the peak", "kept: the new state", "beyond it"]
    return (
        "### Memory that Python allocates in a load, bytes per parameter\n\n"
        + table(headers, rows)
    )


def files_table(sizes: Mapping[str, Mapping[str, float]]) -> str:
    """The sizes of files, in bytes per parameter."""
    headers = [
        "parameters",
        "a name",
        "indexed",
        "with names, stock",
        "with names, patched",
        "names add, stock",
        "names add, patched",
    ]
    rows = [
        [f"{int(size):,}", *(f"{value:.1f}" for value in values.values())]
        for size, values in sizes.items()
    ]
    return "### Files, bytes per parameter\n\n" + table(headers, rows)


def imports_text(imports: Mapping[str, Sequence[float]]) -> str:
    """The time of ``import torch``."""
    parts = [
        f"{kind}: {duration(statistics.median(seconds))} "
        f"({duration(min(seconds))} to {duration(max(seconds))})"
        for kind, seconds in imports.items()
    ]
    number = len(next(iter(imports.values())))
    return (
        f"### `import torch`\n\n{', '.join(parts)}; processor time, the medians of "
        f"{number} new processes each, in turns"
    )


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up, too."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |"
        for line in lines
    )
