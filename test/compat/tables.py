"""Make the tables of ``docs/compatibility.md`` from what was read.

    python test/compat/tables.py RESULTS.json... > TABLES.md

takes the results of ``read_checkpoints.py``. A cell sums up all files, numbers
of groups and optimizers with and without names.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any


Result = dict[str, Any]


def cell(results: Iterable[Result]) -> str:
    """Sum up results in a few words."""
    results = list(results)
    if any("error" in result for result in results):
        return "error"
    differences = [r["difference"] for r in results if "difference" in r]
    if not differences:
        return "none"
    return f"{max(differences):.0e}" if any(differences) else "="


def table(results: Iterable[Result], column: str) -> str:
    """A Markdown table with a row for each optimizer.

    Args:
        results: what to show.
        column: the entry of a result that is the release of its column.

    Returns:
        str: the table, with the releases from the oldest to the newest.
    """
    cells: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        cells[result["case"].partition(",")[0], result[column]].append(result)
    rows = sorted({row for row, _ in cells}, key=str.lower)
    columns = sorted(
        {name for _, name in cells},
        key=lambda release: ([int(n) for n in re.findall(r"\d+", release)], release),
    )
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(cell(cells[row, name]) for name in columns)] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def count(results: Iterable[Result]) -> str:
    """How many loads there were, and how they ended."""
    kinds = Counter(
        "without the optimizer"
        if "absent" in result
        else "with an error"
        if "error" in result
        else "with other bits"
        if result["difference"]
        else "bit-equal"
        for result in results
    )
    return ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    results = [
        result
        for file in parser.parse_args().results
        for result in json.loads(file.read_text(encoding="utf-8"))
    ]
    ours = [r for r in results if r["read_by"].endswith("+named")]
    theirs = [r for r in results if r not in ours]
    named = [
        r for r in theirs if r["written_by"].endswith("+named") and r["file"] == "named"
    ]
    own = [r for r in theirs if r["written_by"] == r["read_by"]]
    for title, part, column in (
        ("Files of releases, read by the series", ours, "written_by"),
        ("Named files of the series, read by releases", named, "read_by"),
        ("Files of releases, read by themselves", own, "read_by"),
    ):
        print(f"## {title}\n\n{count(part)}\n")
        print(table(part, column))


if __name__ == "__main__":
    main()
