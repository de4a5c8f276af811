# Owner(s): ["module: optimizer"]

"""All tests of parameter names in optimizers.

Run ``python test/test_optim.py`` or ``pytest test/test_optim.py``. Each module
of ``test/optim`` can be run in the same ways.
"""

import importlib
import os
import sys
import time
import unittest
from pathlib import Path


FOLDER = Path(__file__).resolve().parent / "optim"

sys.path.insert(0, str(FOLDER))

# What the compiler says about graph breaks looks like failures. Read when torch
# is imported.
os.environ.setdefault("TORCH_LOGS", "-dynamo,-inductor")

importlib.import_module("_guard").require_patched_torch()


def _test_cases() -> dict[str, type[unittest.TestCase]]:
    """The test cases of all modules, by name."""
    cases: dict[str, type[unittest.TestCase]] = {}
    for file in sorted(FOLDER.glob("test_*.py")):
        for name, value in vars(importlib.import_module(file.stem)).items():
            if (
                isinstance(value, type)
                and issubclass(value, unittest.TestCase)
                and any(method.startswith("test") for method in dir(value))
                and cases.setdefault(name, value) is not value
            ):
                raise RuntimeError(f"{file} is not the only one with a {name}")
    return cases


# The runners look for test cases among the names of this module.
globals().update(_test_cases())


class _Progress(unittest.TextTestResult):
    """Lines that say how far the run is, in place of a dot for each test."""

    total = 0

    def startTestRun(self) -> None:  # noqa: N802
        super().startTestRun()
        self.dots = False
        self._start = self._last = time.monotonic()

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        now = time.monotonic()
        if now - self._last < 5 and self.testsRun < self.total:
            return
        self._last = now
        bad = len(self.failures) + len(self.errors)
        self.stream.writeln(
            f"{self.testsRun:6} of {self.total} tests, "
            f"{self.testsRun * 100 // self.total:3} %, {now - self._start:4.0f} s, "
            f"{bad or 'none'} failed"
        )
        self.stream.flush()


class _Runner(unittest.TextTestRunner):
    resultclass = _Progress

    def run(self, test: unittest.TestSuite | unittest.TestCase) -> unittest.TestResult:
        _Progress.total = test.countTestCases()
        self.warnings = None  # those of torch itself tell nothing about a test
        return super().run(test)


if __name__ == "__main__":
    from torch.testing._internal.common_utils import run_tests

    if not {"-v", "--verbose"}.intersection(sys.argv):
        # run_tests() takes no runner.
        unittest.runner.TextTestRunner = _Runner  # type: ignore[misc]
    run_tests()
