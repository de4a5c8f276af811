"""What a run found, in Markdown: all of it, and what the project's README has."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from plan import SECTIONS, Section
from rounds import TOO_LARGE, Measured

from tools import layout
from tools.errors import ToolError


#: What is generated stands between these lines.
BEGIN = "<!-- written by benchmarks/optim_state.py --refresh: begin -->"
END = "<!-- end -->"

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def measured(run: Mapping[str, Any]) -> list[Measured]:
    """The rows of a run that were measured.

    Args:
        run (Mapping): what :mod:`optim_state` writes. Its ``"results"`` have
            the values of each round, by the section's key and the row's text.

    Returns:
        list of Measured: in the order of the plan.
    """
    return [
        Measured(section, row, **values[row.what])
        for section in SECTIONS
        if (values := run["results"].get(section.key))
        for row in section.rows
        if row.what in values
    ]


def tables(run: Mapping[str, Any]) -> str:
    """The machine, and a table for each section that was measured.

    Args:
        run (Mapping): as for :func:`measured`.

    Returns:
        str: Markdown.
    """
    found = measured(run)
    parts = [f"{_machine(run)} {_targets(found)}"]
    for section in SECTIONS:
        rows = [one for one in found if one.section == section]
        missing = run["missing"].get(section.key)
        if rows or missing:
            parts.append(f"### {section.title}")
        if rows:
            parts += [_direction(section), _table_of(section, rows)]
        if missing:
            parts.append(f"Not measured: {missing}")
    return "\n\n".join(parts)


def _direction(section: Section) -> str:
    if section.faster:
        return "Times as fast as stock; more is better."
    base, ours = section.columns
    return f"Ratio of the column '{ours}' to '{base}'; less is better."


def _table_of(section: Section, rows: Sequence[Measured]) -> str:
    bound = "at least" if section.faster else "at most"
    headers = ["", *section.columns, "ratio", "range", "rounds", "target", ""]
    lines = [
        [
            one.row.what,
            *_values(one),
            _ratio(one),
            _range(one),
            str(len(one.base)),
            f"{bound} {one.row.target:g}",
            f"**{one.verdict}**" if one.verdict != "met" else "met",
        ]
        for one in rows
    ]
    return _table(headers, lines)


def summary(run: Mapping[str, Any]) -> str:
    """What the project's README has of a run.

    Args:
        run (Mapping): as for :func:`measured`.

    Returns:
        str: Markdown, with the same ratios as :func:`tables`.
    """
    found = measured(run)
    shown = [one for one in found if one.row.in_readme]
    rows = [
        [one.row.what, *_values(one), f"{_ratio(one)} {_words(one)}"] for one in shown
    ]
    sections = {one.section.key for one in shown}
    others = []
    for section in SECTIONS:
        ours = [one for one in found if one.section == section]
        if ours and section.key not in sections:
            ratios = " and ".join(dict.fromkeys(map(_ratio, ours)))
            others.append(f"* {section.title}: {ratios} times")
    headers = ["", f"PyTorch {run['torch']}", "with the series", ""]
    last = (
        f"{_machine(run)} {_targets(found)} All figures are in "
        "[`benchmarks/`](benchmarks/README.md#results)."
    )
    return "\n\n".join((_table(headers, rows), "\n".join(others), last))


def _words(one: Measured) -> str:
    return "times as fast" if one.section.faster else "times the time"


def _machine(run: Mapping[str, Any]) -> str:
    return f"Measured on {run['machine']}, series {run['series']}."


def _targets(found: Sequence[Measured]) -> str:
    met = [one for one in found if one.verdict == "met"]
    return f"{len(met)} of {len(found)} targets are met."


def _values(one: Measured) -> tuple[str, str]:
    base, ours = map(statistics.median, (one.base, one.ours))
    if one.section.exact:
        return f"{base:,.0f}", f"{ours:,.0f}"
    return _duration(base), _duration(ours)


def _duration(seconds: float) -> str:
    """A time with three digits and a unit that suits it."""
    scale, unit = next((u for u in _UNITS if seconds >= u[0]), _UNITS[-1])
    return f"{seconds / scale:.3g} {unit}"


def _ratio(one: Measured) -> str:
    """The ratio, or what can be said instead: it is not claimed if it is unsure."""
    if one.spread <= TOO_LARGE:
        return _number(one.ratio, one)
    return f"unsure, {_range(one)}"


def _range(one: Measured) -> str:
    low, high = one.range
    if math.isinf(high):
        return "too few rounds"
    return f"{_number(low, one)} to {_number(high, one)}"


def _number(value: float, one: Measured) -> str:
    if one.section.exact:
        return f"{value:.4f}"
    return f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up, too."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(3, *map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |"
        for line in lines
    )


def written(run: Mapping[str, Any]) -> dict[Path, bytes]:
    """The two README files with what a run found.

    Args:
        run (Mapping): as for :func:`measured`.

    Returns:
        dict[Path, bytes]: their new content.

    Raises:
        ToolError: if one does not have the lines between which that stands.
    """
    return {
        path: _between(path, text)
        for path, text in (
            (layout.ROOT / "README.md", summary(run)),
            (layout.ROOT / "benchmarks" / "README.md", tables(run)),
        )
    }


def _between(path: Path, text: str) -> bytes:
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ToolError(f"{path} must have the lines '{BEGIN}' and '{END}'.")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}".encode()
