"""The README's section on speed, from the figures of a run."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import report
import step_instructions
from rounds import Figure
from targets import Verdict

from tools.errors import ToolError


README = Path(__file__).resolve().parent.parent / "README.md"

#: The section is what stands between these lines.
BEGIN = "<!-- written by benchmarks/optim_state.py --refresh: begin -->"
END = "<!-- end -->"

#: A row of the table: what is done; contest, label of stock and of the series; and
#: the number of parameters.
_ROWS = (
    ("load by index", "load", "stock unnamed", "unnamed", 1_000),
    ("load by name, stock by index", "load", "stock named", "named", 1_000),
    ("load by name, stock by index", "load", "stock named", "named", 30_000),
    ("load by name", "load", "stock named", "named", 1_000_000),
    (
        "one param group per parameter",
        "construct_groups",
        "stock named",
        "named",
        8_000,
    ),
    (
        "one param group per parameter",
        "construct_groups",
        "stock named",
        "named",
        100_000,
    ),
    ("construct with names", "construct", "stock named", "named", 1_000),
    (
        "`state_dict()` with names, stock with indices",
        "state_dict",
        "stock unnamed",
        "named",
        1_000,
    ),
    ("state dict with names, stock: DCP", "get_by_name", "stock DCP", "named", 1_000),
    ("resume by name, stock: DCP", "resume_by_name", "stock DCP", "named", 1_000),
    ("resume by name, stock: DCP", "resume_by_name", "stock DCP", "named", 8_000),
)


def written(
    run: Mapping[str, Any], figures: Sequence[Figure], verdicts: Sequence[Verdict]
) -> dict[Path, bytes]:
    """The README with the section of a run.

    Args:
        run (Mapping): all that the run found.
        figures (sequence of Figure): its figures.
        verdicts (sequence of Verdict): what they say about the targets.

    Returns:
        dict[Path, bytes]: the new content of the file.

    Raises:
        ToolError: if the README does not have the lines between which it stands.
    """
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ToolError(f"{README} must have the lines '{BEGIN}' and '{END}'.")
    section = _section(run, figures, verdicts)
    return {README: f"{before}{begin}\n\n{section}\n\n{end}{after}".encode()}


def _section(
    run: Mapping[str, Any], figures: Sequence[Figure], verdicts: Sequence[Verdict]
) -> str:
    found = {(f.contest, f.label, f.size): f for f in figures}
    rows = [
        [doing, f"{size:,}", *_cells(found.get, contest, stock, label, size)]
        for doing, contest, stock, label, size in _ROWS
        if (contest, label, size) in found
    ]
    machine = run["machine"]
    judged = [v for v in verdicts if v.met is not None]
    missed = [v.target for v in judged if not v.met]
    lines = [
        report.table(["", "parameters", "PyTorch 2.13.0", "with names", ""], rows),
        _small_print(run),
        "| |\n|---|\n"
        "| ![Seconds of a load against the number of parameters.]"
        "(benchmarks/results/load.png) |\n"
        "| ![Seconds of building one param group per parameter.]"
        "(benchmarks/results/construct_groups.png) |",
        f"Measured on {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['memory']}, {machine['platform']}, Python {machine['python']}, "
        f"torch {run['torch']['stock']}, in processor time of one thread. "
        f"{len(judged) - len(missed)} of {len(judged)} targets are met"
        + (". Missed: " + "; ".join(missed) if missed else "")
        + ". All figures, their spread and the targets are in "
        "[`benchmarks/results/optim_state.md`](benchmarks/results/optim_state.md).",
    ]
    return "\n\n".join(line for line in lines if line)


def _cells(
    find: Callable[[tuple[str, str, int]], Figure | None],
    contest: str,
    stock: str,
    label: str,
    size: int,
) -> list[str]:
    base, ours = find((contest, stock, size)), find((contest, label, size))
    assert ours is not None
    if base is None:
        return ["-", report.duration(ours.median), ""]
    ratio = base.median / ours.median
    return [
        report.duration(base.median),
        report.duration(ours.median),
        f"{ratio:.0f} times faster"
        if ratio >= 9.5
        else f"{ratio:.1f} times faster"
        if ratio >= 1.095
        else f"{1 / ratio:.2f} times the time",
    ]


def _small_print(run: Mapping[str, Any]) -> str:
    sentences = []
    instructions = run["instructions"]
    if instructions and "missing" not in instructions:
        ratios = step_instructions.ratios(instructions).values()
        worst = max(ratios, key=lambda ratio: abs(ratio - 1))
        sentences.append(
            "The instructions of a step of SGD, Adam and AdamW are those of PyTorch "
            f"2.13.0 within {abs(worst - 1):.2%}."
        )
    for size, values in list(run["files"].items())[-1:]:
        sentences.append(
            f"In a file, a name of {values['name']:.0f} bytes takes "
            f"{values['patched_names']:.0f} bytes (of {values['patched']:.0f} for each "
            f"of {int(size):,} parameters)."
        )
    extra = [
        values["extra"]
        for load, values in run["memory"].get("patched", {}).items()
        if load.endswith(" 1000000")
    ]
    if extra:
        sentences.append(
            f"A load of 1,000,000 parameters needs at most {max(extra):.0f} bytes per "
            "parameter beyond the state."
        )
    return " ".join(sentences)
