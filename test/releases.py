"""Run the tests on releases of PyTorch, and write down what came out.

Usage: python test/releases.py RELEASE... [--tests PATH...] [--again]

For each release this makes an environment in ``build/venv-RELEASE`` with the
published torch, lays the series over it (``python -m tools apply``), and runs the
tests one file after the other. A test that fails is run on the release itself, too,
without the series. Results are kept in ``build/releases/``: a run that was stopped
goes on where it was, and only files that changed are run anew.

``docs/releases.md`` gets a row for each release. ``test/known_failures`` has the
reasons of failures.
"""

import argparse
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any


ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test" / "optim")]

import _guard

from tools import layout, releases, series
from tools.errors import REPORTED, ToolError, report


TESTS = ("test/optim", "test/distributed", "test/inductor")
KNOWN = ROOT / "test" / "known_failures"
PAGE = ROOT / "docs" / "releases.md"
RESULTS = layout.BUILD / "releases"

#: What the reason of a failure begins with that the table does not have.
UNKNOWN = "No reason is known"

#: How many tests the page names for a reason.
MOST = 10

#: Seconds after which a file of tests has hung.
PATIENCE = 3600

_HEAD = """\
# Releases

What `python test/releases.py` found: all tests, on the published torch with the series
laid over it, on Linux and a CPU. A test that fails was run on the release itself, too.
A variant is a patch that is another one than for the newest release.

| release | variants | tests | passed | skipped | failed | date |
|---|---|---|---|---|---|---|
"""

#: Run with the torch of an environment as it was published.
_ON_STOCK = """\
import subprocess, sys
from tools.view import stock_environment
sys.exit(subprocess.call([sys.executable, *sys.argv[1:]], env=stock_environment()))
"""


def main() -> int:
    """Run the tests on the releases that were named.

    Returns:
        int: the exit status; 1 if a failure has no reason.
    """
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], formatter_class=argparse.HelpFormatter
    )
    parser.add_argument("release", nargs="+", help="such as 2.14.1")
    parser.add_argument(
        "--tests",
        nargs="+",
        default=(),
        metavar="PATH",
        help=f"files or folders; default: {' '.join(TESTS)}, as far as the release "
        "has patches for them",
    )
    parser.add_argument(
        "--again", action="store_true", help="run also what was run before"
    )
    options = parser.parse_args()
    try:
        found = [releases.find(version) for version in options.release]
        unexplained = [
            test
            for release in found
            for test in prove(release, options.tests, again=options.again)
        ]
    except REPORTED as error:
        return report(error)
    for test in unexplained:
        print(test)
    return 1 if unexplained else 0


def prove(
    release: releases.Release, tests: Sequence[str], *, again: bool = False
) -> list[str]:
    """Run tests on one release, and write the results to the page.

    Args:
        release (Release): the release.
        tests (Sequence[str]): files and folders of tests; all that there are for the
            release if there is none.
        again (bool): whether to run also what was run before.

    Returns:
        list[str]: the failures that ``test/known_failures`` does not explain.

    Raises:
        ToolError: if there is no such environment and it cannot be made.
    """
    tests = tests or (TESTS[:1] if release.optimizers_only else TESTS)
    python = environment(release)
    call([python, "-m", "tools", "apply"], f"apply the series to {release.version}")
    patches = series.patches(release.version)
    revision = series.revision(patches, series.overlay_files())
    results = []
    for file in test_files(tests):
        kept = RESULTS / release.version / f"{file.replace('/', '.')}.json"
        key = f"{revision} {hashlib.sha256((ROOT / file).read_bytes()).hexdigest()}"
        old = json.loads(kept.read_text()) if kept.exists() else {}
        if again or old.get("key") != key:
            old = {"key": key, **run(python, file)}
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(old, indent=1))
            print(f"{release.version}  {file}: {summary([old])}", flush=True)
        results.append(old)
    failures = explained(release.version, results)
    page = PAGE.read_text() if PAGE.exists() else ""
    row = [
        release.version,
        variants(patches),
        "all" if tuple(tests) == TESTS else " ".join(tests),
        *(str(sum(r[kind] for r in results)) for kind in ("passed", "skipped")),
        str(sum(map(len, failures.values()))),
        max(result["date"] for result in results),
    ]
    PAGE.write_text(updated(page, row, failures))
    print(f"{release.version}  {summary(results)}", flush=True)
    return [
        f"{test}. {reason}"
        for reason, tests in failures.items()
        if reason.startswith(UNKNOWN)
        for test in tests
    ]


def environment(release: releases.Release) -> str:
    """The interpreter of an environment with the published torch.

    Args:
        release (Release): the release.

    Returns:
        str: its path, in ``build/venv-RELEASE``.

    Raises:
        ToolError: if it cannot be made.
    """
    folder = layout.BUILD / f"venv-{release.version}"
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = str(folder / scripts / "python")
    done = folder / "torch-is-there"
    if not done.exists():
        if sys.version_info[:2] < release.python:
            raise ToolError(
                f"PyTorch {release.version} needs Python "
                f"{'.'.join(map(str, release.python))} or later; run this with one."
            )
        call([sys.executable, "-m", "venv", str(folder)], f"make {folder}")
        install = [python, "-m", "pip", "install", "--quiet"]
        needed = ["-r", str(ROOT / "test" / "requirements.txt")]
        call([*install, f"torch=={release.version}", *needed], "install torch")
        done.touch()
    return python


def call(command: Sequence[str], what: str) -> None:
    """Run a command that has to succeed.

    Args:
        command (Sequence[str]): it, with its arguments.
        what (str): what it does, for the error.

    Raises:
        ToolError: if it fails.
    """
    status = subprocess.call(command, cwd=ROOT, env=clean_environment())
    if status:
        raise ToolError(f"Could not {what}: {' '.join(command)} ended with {status}.")


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead to another torch."""
    # If CI is set, upstream's test runner needs another package.
    other = ("PYTHONPATH", "VIRTUAL_ENV", "CI")
    return {name: value for name, value in os.environ.items() if name not in other}


def test_files(tests: Sequence[str]) -> list[str]:
    """The files of tests in files and folders, as POSIX paths from the root."""
    found = []
    for test in tests:
        path = ROOT / test
        files = sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
        found += [file.relative_to(ROOT).as_posix() for file in files]
    return found


def run(python: str, file: str) -> dict[str, Any]:
    """Run a file of tests with the series, and what fails also without.

    Args:
        python (str): the interpreter.
        file (str): POSIX path of the file.

    Returns:
        dict: ``passed`` and ``skipped``, numbers; ``failed``, which maps each test to
        its message and to what it says on the release itself; ``date``.
    """
    outcome = pytest(python, [file])
    failed = {test: text for test, text in outcome.items() if text}
    stock = pytest(python, [*failed], stock=True) if failed else {}
    return {
        "passed": sum(text == "" for text in outcome.values()),
        "skipped": sum(text is None for text in outcome.values()),
        "failed": {
            test: {"message": text, "stock": stock.get(test)}
            for test, text in failed.items()
        },
        "date": datetime.date.today().isoformat(),
    }


def pytest(
    python: str,
    tests: Sequence[str],
    *,
    stock: bool = False,
    torch: Path | None = None,
    root: Path = ROOT,
) -> dict[str, str | None]:
    """Run tests of one file.

    Args:
        python (str): the interpreter.
        tests (Sequence[str]): the file, or tests in it.
        stock (bool): whether to run them without the series.
        torch (Path, optional): a folder with the ``torch`` to import instead of
            the installed one.
        root (Path): the folder that has the tests.

    Returns:
        dict: for each test, the first line of its error; empty if it passes, None
        if it is skipped. If the run breaks off, that is the error of the file.
    """
    file = tests[0].partition("::")[0]
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "junit.xml"
        command = [python, *(["-c", _ON_STOCK] if stock else []), "-m", "pytest"]
        command += ["-q", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
        command += ["--tb=line", f"--junitxml={written}", *tests]
        # Else the tests refuse to run without the series.
        unpatched = {_guard.UNPATCHED: "1"} if stock or torch else {}
        if torch:
            unpatched["PYTHONPATH"] = str(torch)
        try:
            done = subprocess.run(
                command,
                cwd=root,
                env={**clean_environment(), **unpatched},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired:
            return {file: f"not done after {PATIENCE} s"}
        if not written.exists():
            last = done.stdout.decode("utf-8", "replace").strip().splitlines()[-1:]
            return {file: f"ended with status {done.returncode}: {' '.join(last)}"}
        return dict(outcomes(ET.parse(written).getroot(), file))


def outcomes(report: ET.Element, file: str) -> Iterator[tuple[str, str | None]]:
    """The tests in a report of pytest, as :func:`pytest` returns them."""
    for case in report.iter("testcase"):
        name = case.get("classname", "").rpartition(".")[2]
        test = f"{file}::{name}::{case.get('name')}" if name else file
        problem = next((p for p in case if p.tag in ("failure", "error")), None)
        if problem is not None:
            text = problem.get("message") or "failed"
            # In the repr of an argument, line feeds are two characters.
            yield test, re.split(r"\n|\\n", text)[0][:200]
        else:
            yield test, None if case.find("skipped") is not None else ""


def explained(release: str, results: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The failures by reason; one that nobody gave begins with :data:`UNKNOWN`."""
    found: dict[str, list[str]] = {}
    reasons = known()
    for test, texts in (entry for r in results for entry in r["failed"].items()):
        for version, pattern, given in reasons:
            if fnmatchcase(release, version) and fnmatchcase(test, pattern):
                reason = given
                break
        else:
            stock = texts["stock"] or "it passes or is skipped"
            reason = f"{UNKNOWN}: {texts['message']}; on the release itself: {stock}"
        found.setdefault(reason, []).append(test)
    return found


def known() -> list[tuple[str, str, str]]:
    """The lines of ``test/known_failures``: releases, tests, and the reason."""
    found = []
    for number, line in enumerate(KNOWN.read_text().splitlines(), 1):
        if line and not line.startswith("#"):
            fields = line.split(maxsplit=2)
            if len(fields) < 3:
                raise ToolError(
                    f"Line {number} of {KNOWN} needs a release, a test and a reason."
                )
            found.append((fields[0], fields[1], fields[2]))
    return found


def variants(patches: Sequence[series.Patch]) -> str:
    """How many patches are others than for the newest release, or are not there."""
    other = sum(patch.path.parent != layout.PATCHES for patch in patches)
    absent = len(series.order()) - len(patches)
    return f"{other}, {absent} absent" if absent else str(other)


def summary(results: Sequence[dict[str, Any]]) -> str:
    """The numbers of tests, such as ``3 passed, 1 skipped, 0 failed``."""
    numbers = {
        "passed": sum(result["passed"] for result in results),
        "skipped": sum(result["skipped"] for result in results),
        "failed": sum(len(result["failed"]) for result in results),
    }
    return ", ".join(f"{number} {kind}" for kind, number in numbers.items())


def updated(page: str, row: Sequence[str], failures: dict[str, list[str]]) -> str:
    """The page with what was found on one release.

    Args:
        page (str): the page so far; what it says of other releases stays.
        row (Sequence[str]): the row of the table, which begins with the release.
        failures (dict): the failed tests by reason.

    Returns:
        str: the new page.
    """
    rows = dict(re.findall(r"^\| (\d\S*) (\|.*)$", page, re.MULTILINE))
    rows[row[0]] = f"| {' | '.join(row[1:])} |"
    texts = dict(re.findall(r"^## (\d\S*)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    texts[row[0]] = "".join(
        f"\n* {reason}\n\n"
        + "".join(f"  `{test.removeprefix('test/')}`\n" for test in tests[:MOST])
        + (f"  and {len(tests) - MOST} more\n" if len(tests) > MOST else "")
        for reason, tests in failures.items()
    )
    newest_first = sorted(rows, key=releases.order, reverse=True)
    table = "".join(f"| {release} {rows[release]}\n" for release in newest_first)
    sections = [
        f"\n## {release}\n\n{texts[release].strip()}\n"
        for release in newest_first
        if texts.get(release, "").strip()
    ]
    return _HEAD + table + "".join(sections)


if __name__ == "__main__":
    sys.exit(main())
