"""Add up the tests in the logs of unittest and pytest: ``N passed, N failed``."""

import re
import sys
from collections import Counter
from pathlib import Path


#: Such as "Ran 3 tests in 0.1s", an empty line, "FAILED (errors=1, skipped=1)".
_UNITTEST = re.compile(
    r"^Ran (?P<ran>\d+) tests? in \S+\n+(?:OK|FAILED|NO TESTS RAN)(?: \((?P<rest>.*)\))?$",
    re.MULTILINE,
)

#: Such as "1 failed, 2 passed, 1 skipped in 0.10s", with or without a frame.
_PYTEST = re.compile(
    r"^(?:=+ )?(?P<counts>\d+ \w+(?:, \d+ \w+)*) in [\d.]+s", re.MULTILINE
)

_BAD = ("failed", "failures", "error", "errors", "unexpected successes")


def tally(log: str) -> Counter[str]:
    """Count the tests in a log.

    Args:
        log (str): what a test runner, or anything else, printed.

    Returns:
        Counter[str]: the number of tests under ``passed``, ``failed``, and
        ``skipped``.
    """
    total: Counter[str] = Counter()
    for run in _UNITTEST.finditer(log):
        pairs = (part.split("=") for part in (run["rest"] or "").split(", ") if part)
        counts = Counter({kind: int(number) for kind, number in pairs})
        total["failed"] += sum(counts[kind] for kind in _BAD)
        total["skipped"] += counts["skipped"]
        # A test with several failing subtests is counted several times.
        total["passed"] += max(0, int(run["ran"]) - counts.total())
    for run in _PYTEST.finditer(log):
        pairs = (part.split(" ") for part in run["counts"].split(", "))
        counts = Counter({kind: int(number) for number, kind in pairs})
        total["failed"] += sum(counts[kind] for kind in _BAD)
        total["skipped"] += counts["skipped"]
        total["passed"] += counts["passed"]
    return total


def main(logs: list[str]) -> int:
    """Print the sum over the logs.

    Args:
        logs (list of str): paths.

    Returns:
        int: the exit status; 1 if a test failed or none ran.
    """
    total = sum(
        (tally(Path(log).read_text(encoding="utf-8")) for log in logs), Counter()
    )
    line = f"{total['passed']} passed, {total['failed']} failed"
    print(line + (f", {total['skipped']} skipped" if total["skipped"] else ""))
    return 0 if total["passed"] and not total["failed"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
