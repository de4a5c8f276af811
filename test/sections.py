"""Run the tests after each section of the series, and say where they begin to pass.

Usage: python test/sections.py [--branch] [--tests PATH...] [--only NUMBER...]
       python test/sections.py --write

Over the installed torch, a release that the series is for, this lays the sections of
``patches/series``, one after the other, each with the modules of the overlay that it
uses: what a reviewer of the pull request has. A test belongs to the first section after
which it passes; after all later ones it must pass, too. ``--write`` keeps this in
``test/sections.txt``, from which ``python -m tools branch`` gives each pull request its
tests. ``--branch`` runs these, from the files that the branch has after each section.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import releases as proof

from tools import (
    fetch,
    files,
    installed,
    layout,
    releases,
    series,
    stack,
    tree,
    upstream_tests,
    view,
)
from tools.errors import REPORTED, report


def main() -> int:
    """Run the tests after each section.

    Returns:
        int: the exit status; 1 if a test that passes after a section fails after a
        later one, or in the end.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--tests",
        nargs="+",
        default=proof.TESTS,
        metavar="PATH",
        help=f"files or folders; default: {' '.join(proof.TESTS)}",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        type=int,
        metavar="NUMBER",
        help="sections, from 1 on; 0 is PyTorch as it is",
    )
    parser.add_argument(
        "--branch",
        action="store_true",
        help="run the tests that 'python -m tools branch' has after each section",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="run the tests that go upstream, and write which section each belongs to",
    )
    options = parser.parse_args()
    if options.write and (
        options.branch or options.only or options.tests != proof.TESTS
    ):
        parser.error("--write runs all; leave the other options out")
    try:
        if options.branch:
            broken = prove_branch(options.tests, options.only)
        elif not options.write:
            _, broken = prove(options.tests, options.only)
        else:
            moving = upstream_tests.upstream_tests()
            sources = {p: moving[p].decode() for p in sorted(moving) if "/test_" in p}
            # File by file: a release may crash where a later section checks.
            belongs, broken = prove([*sources])
            titles = [section.title for section in series.sections()]
            content = table(belongs, sources, titles).encode()
            files.replace({ROOT / upstream_tests.TABLE: content})
    except REPORTED as error:
        return report(error)
    for line in broken:
        print(line)
    return 1 if broken else 0


def prove(
    tests: Sequence[str], only: Sequence[int] | None = None
) -> tuple[dict[str, str], list[str]]:
    """Run tests after sections, and print how many begin to pass.

    Args:
        tests (Sequence[str]): files and folders.
        only (Sequence[int], optional): the sections after which to run them, from 1
            on; 0 is PyTorch as it is. All by default.

    Returns:
        (dict, list of str): the title of the section after which each test begins to
        pass, empty if it passes without the series; a line for each test that passed
        after an earlier section, or fails after the last one.

    Raises:
        ToolError: if torch is not installed, or is no release that the series is for.
    """
    torch, changes = _changes()
    passed: dict[str, str] = {}
    broken: list[str] = []
    print("section  begin to pass  pass   fail")
    for number, (title, changed) in enumerate(changes.items()):
        if only and number not in only:
            continue
        outcome = run(torch, changed, tests)
        passing = {test for test, text in outcome.items() if text == ""}
        failing = {test: text for test, text in outcome.items() if text}
        print(
            f"{number:>7}  {len(passing - passed.keys()):>13}  {len(passing):>4}  "
            f"{len(failing):>5}  {title or 'PyTorch as it is'}",
            flush=True,
        )
        gone = [test for test in passed if test not in passing]
        broken += [
            f"After '{title}', {test} fails: {failing.get(test)}. It passed "
            + (f"after '{passed[test]}'." if passed[test] else "without the series.")
            for test in gone
        ]
        for test in gone:
            del passed[test]
        for test in passing:
            passed.setdefault(test, title)
    broken += [f"In the end, {test} fails: {t}" for test, t in failing.items()]
    return passed, broken


def prove_branch(tests: Sequence[str], only: Sequence[int] | None = None) -> list[str]:
    """Run the tests that the branch has after sections, and print how many pass.

    Args:
        tests (Sequence[str]): files and folders.
        only (Sequence[int], optional): as in :func:`prove`.

    Returns:
        list of str: a line for each test that fails.

    Raises:
        ToolError: as :func:`prove`.
    """
    torch, changes = _changes()
    del changes[""]
    broken: list[str] = []
    print("section   pass  skipped   fail")
    parts = upstream_tests.by_section([*changes])
    for number, ((title, changed), part) in enumerate(zip(changes.items(), parts), 1):
        modules = [
            path
            for path in sorted(part)
            if "/test_" in path and any(Path(path).is_relative_to(t) for t in tests)
        ]
        if not modules or (only and number not in only):
            continue
        outcome = run(torch, changed, modules, part)
        failing = {test: text for test, text in outcome.items() if text}
        skipped = [*outcome.values()].count(None)
        passing = len(outcome) - len(failing) - skipped
        print(
            f"{number:>7}  {passing:>5}  {skipped:>7}  {len(failing):>5}  {title}",
            flush=True,
        )
        broken += [f"After '{title}', {test} fails: {t}" for test, t in failing.items()]
    return broken


def _changes() -> tuple[Path, dict[str, Mapping[str, bytes | None]]]:
    """The installed torch, and what is changed in it after each section.

    Returns:
        (Path, dict): its folder; from the title of a section, and from an empty one
        for PyTorch as it is, to changes as in :func:`run`.
    """
    torch = installed.installed_torch()
    release = releases.find(installed.look(torch).release)
    sources = tree.wheel_sources(fetch.python_files(release), release.version)
    overlay = {path: f.read_bytes() for path, f in series.overlay_files().items()}
    changes: dict[str, Mapping[str, bytes | None]] = {"": {}}
    for step in stack.steps(series.sections(release.version), sources, overlay):
        changes[step.section.title] = {**step.patched, **step.overlay}
    return torch.folder, changes


def table(
    belongs: Mapping[str, str], sources: Mapping[str, str], titles: Sequence[str]
) -> str:
    """The content of ``test/sections.txt``.

    Args:
        belongs (Mapping[str, str]): the section of each test that passes, by
            ``FILE::CLASS::NAME``, parametrized; empty if it passes without the series.
        sources (Mapping[str, str]): the sources of the modules of tests, by path.
        titles (Sequence[str]): the titles of the sections, in order.

    Returns:
        str: the sections, each with the files, classes and methods that begin to pass
        with it, as far as what they are in does not say so. What passes without the
        series comes with the first of its file that does not.
    """
    entries: dict[str, int] = {}
    for path, source in sources.items():
        number = dict.fromkeys(upstream_tests.tests_of(source), _NEVER)
        for test, title in belongs.items():
            file, _, name = test.partition("::")
            if file == path:
                # All of its parametrizations are to pass.
                method = max((m for m in number if _is_of(name, m)), key=_length)
                begins = titles.index(title) if title else _WITHOUT
                number[method] = max(number[method], begins)
        # What is always skipped comes last.
        last = len(titles) - 1
        by_method = {m: last if n == _NEVER else n for m, n in number.items()}
        found = [n for n in by_method.values() if n >= 0]
        of_file = entries[path] = min(found, default=last)
        by_method = {m: max(n, of_file) for m, n in by_method.items()}
        for case in dict.fromkeys(case for case, _ in by_method):
            methods = {m: n for (c, m), n in by_method.items() if c == case}
            of_case = min(methods.values())
            if of_case != of_file:
                entries[f"{path}::{case}"] = of_case
            entries |= {
                f"{path}::{case}::{m}": n for m, n in methods.items() if n != of_case
            }
    lines = [_HEAD]
    for number, title in enumerate(titles):
        found = [f"{entry}\n" for entry, n in entries.items() if n == number]
        lines += [f"\n[{title}]\n", *sorted(found)] if found else []
    return "".join(lines)


#: In place of the number of a section.
_NEVER, _WITHOUT = -2, -1

_HEAD = """\
# The section of patches/series with which each test begins to pass: what is said of a
# file holds for its classes and their methods, unless they have a line of their own.
# Written by test/sections.py --write.
"""


def _is_of(name: str, method: tuple[str, str]) -> bool:
    """Whether a test, as ``CLASS::NAME``, is an instance of a method."""
    case, _, instance = name.partition("::")
    return case.startswith(method[0]) and f"{instance}_".startswith(f"{method[1]}_")


def _length(method: tuple[str, str]) -> int:
    return len("".join(method))


def run(
    torch: Path,
    changes: Mapping[str, bytes | None],
    tests: Sequence[str],
    sources: Mapping[str, bytes] | None = None,
) -> dict[str, str | None]:
    """Run tests on a torch with some files changed.

    Args:
        torch (Path): the folder of the installed torch.
        changes (Mapping[str, bytes or None]): POSIX path, from ``torch/`` on, to
            content; None for no file.
        tests (Sequence[str]): files and folders.
        sources (Mapping[str, bytes], optional): POSIX path to content of the tests
            and of what they import; those of this repository by default.

    Returns:
        dict: for each test, the first line of its error; empty if it passes, None
        if it is skipped.
    """
    layout.BUILD.mkdir(exist_ok=True)
    with files.scratch(layout.BUILD) as folder:
        view.mirror(torch, folder / "torch", view.below_torch(changes))
        root = ROOT
        if sources is not None:
            root = folder
            files.replace({root / path: content for path, content in sources.items()})
        outcome: dict[str, str | None] = {}
        for test in tests:
            found = proof.pytest(sys.executable, [test], torch=folder, root=root)
            # Where processes live on from test to test, all after a failure are skipped.
            while skipped := [name for name, text in found.items() if text is None]:
                again = proof.pytest(sys.executable, skipped, torch=folder, root=root)
                if set(again.values()) <= {None}:
                    break
                found |= again
            outcome |= found
    return outcome


if __name__ == "__main__":
    sys.exit(main())
