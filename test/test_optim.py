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

# The runners look for test cases among the names of this module.
for file in sorted(FOLDER.glob("test_*.py")):
    for name, value in vars(importlib.import_module(file.stem)).items():
        if (
            isinstance(value, type)
            and issubclass(value, unittest.TestCase)
            and any(method.startswith("test") for method in dir(value))
        ):
            globals()[name] = value


if __name__ == "__main__":
    from torch.testing._internal.common_utils import run_tests

    run_tests()
