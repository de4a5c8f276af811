"""Say in one line why the tests cannot run, instead of in a hundred failures.

Nothing here imports torch or anything else that may be missing.
"""

import importlib.util
import os
import sys
from typing import NoReturn


#: Set to 1, it lets the tests run, and fail, on a torch without the patches.
UNPATCHED = "OPTIM_NAMES_TEST_UNPATCHED"

_NEEDED = ("torch", "expecttest", "hypothesis", "numpy", "pytest")

_INSTALL = (
    "Please run in the root of the repository: pip install . -r test/requirements.txt"
)


def problem() -> str | None:
    """What is missing to run the tests.

    Returns:
        str or None: one line that says what is wrong and what to do; None if
        nothing is.
    """
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            return f"These tests need {name}, which is not installed. {_INSTALL}"
    if os.environ.get(UNPATCHED) == "1":
        return None
    # Found without importing torch, which takes seconds.
    torch = importlib.util.find_spec("torch")
    folders = torch.submodule_search_locations if torch is not None else None
    if not any(
        os.path.isdir(os.path.join(folder, "optim", "_param_names"))
        for folder in folders or ()
    ):
        return (
            "These tests need a torch patched with this repository's series, but the "
            f"torch in {', '.join(folders or ['an unknown place'])} is not. {_INSTALL}"
        )
    return None


def require_patched_torch() -> None:
    """End the run with one line if something is missing."""
    line = problem()
    if line is not None:
        _end(line)


def _end(line: str) -> NoReturn:
    if "_pytest" in sys.modules:
        import pytest

        pytest.exit(line, returncode=1)
    sys.exit(line)
