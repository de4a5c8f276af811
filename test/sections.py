"""Run the tests after each section of the series, and say where they begin to pass.

Usage: python test/sections.py [--tests PATH...] [--only NUMBER...]

Over the installed torch, a release that the series is for, this lays the sections of
``patches/series``, one after the other, each with the modules of the overlay that it
uses: what a reviewer of the pull request has. A test belongs to the first section after
which it passes; after all later ones it must pass, too.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

import releases as proof

from tools import fetch, files, installed, layout, releases, series, stack, tree, view
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
        "--only", nargs="+", type=int, metavar="NUMBER", help="sections, from 1 on"
    )
    options = parser.parse_args()
    try:
        broken = prove(options.tests, options.only)
    except REPORTED as error:
        return report(error)
    for line in broken:
        print(line)
    return 1 if broken else 0


def prove(tests: Sequence[str], only: Sequence[int] | None = None) -> list[str]:
    """Run tests after sections, and print how many begin to pass.

    Args:
        tests (Sequence[str]): files and folders.
        only (Sequence[int], optional): the sections after which to run them, from 1
            on; all by default.

    Returns:
        list[str]: a line for each test that passed after an earlier section, or
        fails after the last one.

    Raises:
        ToolError: if torch is not installed, or is no release that the series is for.
    """
    torch = installed.installed_torch()
    release = releases.find(installed.look(torch).release)
    sources = tree.wheel_sources(fetch.python_files(release), release.version)
    overlay = {path: f.read_bytes() for path, f in series.overlay_files().items()}
    sections = series.sections(release.version)
    passed: dict[str, str] = {}
    broken: list[str] = []
    print("section  begin to pass  pass   fail")
    for number, step in enumerate(stack.steps(sections, sources, overlay), 1):
        if only and number not in only:
            continue
        outcome = run(torch.folder, {**step.patched, **step.overlay}, tests)
        passing = {test for test, text in outcome.items() if text == ""}
        failing = {test: text for test, text in outcome.items() if text}
        print(
            f"{number:>7}  {len(passing - passed.keys()):>13}  {len(passing):>4}  "
            f"{len(failing):>5}  {step.section.title}",
            flush=True,
        )
        broken += [
            f"After '{step.section.title}', {test} fails: {failing.get(test)}. It "
            f"passed after '{passed[test]}'."
            for test in passed
            if test not in passing
        ]
        for test in passing:
            passed.setdefault(test, step.section.title)
    broken += [f"In the end, {test} fails: {t}" for test, t in failing.items()]
    return broken


def run(
    torch: Path, changes: Mapping[str, bytes | None], tests: Sequence[str]
) -> dict[str, str | None]:
    """Run tests on a torch with some files changed.

    Args:
        torch (Path): the folder of the installed torch.
        changes (Mapping[str, bytes or None]): POSIX path, from ``torch/`` on, to
            content; None for no file.
        tests (Sequence[str]): files and folders.

    Returns:
        dict: for each test, the first line of its error; empty if it passes, None
        if it is skipped.
    """
    layout.BUILD.mkdir(exist_ok=True)
    with files.scratch(layout.BUILD) as folder:
        view.mirror(torch, folder / "torch", view.below_torch(changes))
        outcome: dict[str, str | None] = {}
        for test in tests:
            outcome |= proof.pytest(sys.executable, [test], torch=folder)
    return outcome


if __name__ == "__main__":
    sys.exit(main())
