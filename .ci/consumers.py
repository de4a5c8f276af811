"""Check that each pattern of tests in test/consumers.md has tests.

Usage: python .ci/consumers.py, in the environment that runs the tests.
"""

import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "test" / "consumers.md"
FOLDERS = ["test/optim", "test/distributed", "test/inductor"]


def collected() -> list[tuple[str, str]]:
    """The module and the name of each test that pytest finds."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *FOLDERS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"The tests could not be collected:\n{done.stdout}{done.stderr}")
    return re.findall(r"(\w+)\.py::\w+::(.+)$", done.stdout, re.MULTILINE)


def main() -> None:
    """Print the patterns that no test matches, and fail if there are any."""
    tests = collected()
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    patterns = re.findall(r"`(\w+)::([^`]+)`", "\n".join(rows))
    numbers = [
        sum(m == module and fnmatchcase(test, pattern) for m, test in tests)
        for module, pattern in patterns
    ]
    for (module, pattern), number in zip(patterns, numbers, strict=True):
        if number == 0:
            print(f"No test matches {module}::{pattern}")
    print(f"{len(patterns)} patterns in {PAGE.name} match {sum(numbers)} tests.")
    sys.exit(0 if patterns and all(numbers) else 1)


if __name__ == "__main__":
    main()
