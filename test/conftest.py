"""Let pytest run the tests of torch.optim, together or module by module."""

import os
import sys
from pathlib import Path

import pytest


_FOLDER = Path(__file__).resolve().parent / "optim"
_ENTRY = _FOLDER.parent / "test_optim.py"

# As in test_optim.py.
os.environ.setdefault("TORCH_LOGS", "-dynamo,-inductor")

# The modules import their helpers by name, as they do when they are run as scripts.
sys.path.insert(0, str(_FOLDER))


def _given(config: pytest.Config) -> list[Path]:
    """The files and folders that pytest was asked to run."""
    base = config.invocation_params.dir
    return [(base / arg.partition("::")[0]).resolve() for arg in config.args]


def pytest_sessionstart(session: pytest.Session) -> None:
    """End here, with one line, if these tests were asked for and cannot run."""
    from _guard import require_patched_torch

    if any(
        path == _ENTRY or _FOLDER in (path, *path.parents)
        for path in _given(session.config)
    ):
        require_patched_torch()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the modules to test_optim.py where that is collected, too."""
    if collection_path.parent != _FOLDER:
        return None
    if any(path in (_ENTRY, *_ENTRY.parents) for path in _given(config)):
        return True
    return None
