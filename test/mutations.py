"""Break one line of the series at a time, and see that a test notices.

The mutations are in ``mutations.txt``, whose head says how to add one. Each is made
in the materialized tree, its tests are run there, and the file is restored::

    python -m tools materialize
    python test/mutations.py             # all, in half an hour or more
    python test/mutations.py saving tied # those with one of these words
    python test/mutations.py --list

It ends with 1 if a mutation is missed, or if its tests cannot tell.
"""

import argparse
import ast
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


ROOT = Path(__file__).resolve().parent.parent
TREE = ROOT / "build" / "tree"
LIST = Path(__file__).with_suffix(".txt")

#: In seconds, for the tests of one mutation.
LIMIT = 300

_SECTION = re.compile(r"\[(\S+)\]\s+(\S+)")
_FAILED, _NONE_FOUND = 1, 5


class Mutation(NamedTuple):
    """One change of a line, and the tests that should fail with it."""

    #: The file, below ``torch/``.
    path: str
    #: Text that comes before the line, to tell it from others like it.
    after: str
    old: str
    new: str
    #: The module of the tests, and what pytest's ``-k`` is to choose in it.
    tests: str
    chosen: str
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"

    def apply(self, source: str) -> str:
        """The source with the line changed.

        Raises:
            ValueError: if the line is not there, or more than once, or if the
                result is not Python.
        """
        head, anchor, rest = (
            source.rpartition(self.after) if self.after else ("", "", source)
        )
        if self.after and source.count(self.after) != 1:
            raise ValueError(f"{self.after!r} should be there once")
        found = rest.count(self.old)
        if not found or (found > 1 and not self.after):
            raise ValueError(f"{self.old!r} is there {found} times")
        changed = head + anchor + rest.replace(self.old, self.new, 1)
        ast.parse(changed)
        return changed


def read(lines: Sequence[str]) -> Iterator[Mutation]:
    """Read the list of mutations.

    Raises:
        ValueError: with the number of a line that does not have its form.
    """
    path = tests = ""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        if section := _SECTION.fullmatch(line.strip()):
            path, tests = section.groups()
            continue
        change, *fields = line.strip().split("  ::  ")
        before, arrow, new = change.partition("  ~>  ")
        after, dots, old = before.rpartition("  ..  ")
        if not (path and arrow and len(fields) == 2):
            raise ValueError(f"{LIST.name}, line {number}: not in the form of the list")
        first, _, rest = fields[0].partition(" ")
        module, chosen = (first, rest) if first.endswith(".py") else (tests, fields[0])
        yield Mutation(path, after, old, new, module, chosen.strip(), fields[1])


@contextmanager
def applied(mutation: Mutation) -> Iterator[None]:
    """Change the line in the tree, and restore the file whatever happens."""
    file = TREE / "torch" / mutation.path
    original, times = file.read_bytes(), file.stat()
    changed = mutation.apply(original.decode()).encode()
    try:
        file.write_bytes(changed)
        yield
    finally:
        file.write_bytes(original)
        # What was compiled of it is right again.
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def run(tests: str, chosen: str) -> tuple[int, str]:
    """Run tests on the tree.

    Returns:
        (int, str): pytest's exit status, and the end of what it printed.
    """
    words = [
        "-m",
        "tools",
        "python",
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    choice = ["-k", chosen] if chosen else []
    process = subprocess.Popen(
        [sys.executable, *words, *choice, tests],
        cwd=ROOT,
        # A file is changed faster than its time stamp tells.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        text, _ = process.communicate(timeout=LIMIT)
        return process.returncode, text[-2000:]
    except subprocess.TimeoutExpired:
        return 124, f"took more than {LIMIT} s"
    finally:
        # Tests may have started processes, which would import the mutation.
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def check_unchanged(mutations: Sequence[Mutation]) -> list[str]:
    """Say which tests fail on the tree as it is."""
    problems = []
    for tests in dict.fromkeys(m.tests for m in mutations):
        chosen = {m.chosen for m in mutations if m.tests == tests}
        status, text = run(
            tests, "" if "" in chosen else " or ".join(f"({c})" for c in sorted(chosen))
        )
        if status:
            problems.append(f"{tests} fails without a mutation:\n{text}")
    return problems


def check(mutation: Mutation) -> tuple[str, str]:
    """Make a mutation and run its tests.

    Returns:
        (str, str): the verdict, and what pytest printed.
    """
    with applied(mutation):
        status, text = run(mutation.tests, mutation.chosen)
    if status == _FAILED:
        return "caught", text
    if status == 0:
        return "MISSED", text
    return ("NO TEST" if status == _NONE_FOUND else "BROKEN"), text


def main() -> int:
    """Run the mutations that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", help="words of the mutations to run")
    parser.add_argument("--list", action="store_true", help="print them, and run none")
    parser.add_argument(
        "--trust", action="store_true", help="do not run the tests without mutations"
    )
    options = parser.parse_args()
    lines = LIST.read_text(encoding="utf-8").splitlines()
    mutations = [
        m
        for m in read(lines)
        if not options.words or any(w in " ".join(m) for w in options.words)
    ]
    if options.list or not mutations:
        print(*mutations, f"{len(mutations)} mutations", sep="\n")
        return 0 if mutations else 1
    git = ["git", "-C", str(TREE), "status", "--porcelain"]
    if not (TREE / ".git").is_dir():
        sys.exit("error: There is no tree; run 'python -m tools materialize' first.")
    if subprocess.run(git, capture_output=True, text=True, check=True).stdout:
        sys.exit("error: The tree has changes; commit or undo them first.")
    # End as after Ctrl-C, so that the file is restored.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    for mutation in mutations:
        try:
            mutation.apply((TREE / "torch" / mutation.path).read_text())
        except (OSError, SyntaxError, ValueError) as error:
            sys.exit(f"error: {mutation}: {error}. Please correct {LIST.name}.")
    if not options.trust and (problems := check_unchanged(mutations)):
        sys.exit("\n".join(problems))
    failed = 0
    for mutation in mutations:
        start = time.perf_counter()
        verdict, text = check(mutation)
        print(
            f"{verdict:8} {time.perf_counter() - start:4.0f} s  {mutation}", flush=True
        )
        if verdict != "caught":
            failed += 1
            print(f"    {mutation.old}\n    {mutation.new}")
            print(f"    {mutation.tests} -k {shlex.quote(mutation.chosen)}")
            if verdict != "MISSED":
                print(text)
    print(f"{len(mutations) - failed} of {len(mutations)} mutations were caught.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
