# Owner(s): ["module: optimizer"]

"""All tests of parameter names in optimizers.

Run ``python test/test_optim.py`` or ``pytest test/test_optim.py``. Each module
of ``test/optim`` can be run in the same ways.
"""

import importlib
import sys
import unittest
from pathlib import Path


FOLDER = Path(__file__).resolve().parent / "optim"

sys.path.insert(0, str(FOLDER))

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


if __name__ == "__main__":
    from torch.testing._internal.common_utils import run_tests

    run_tests()
