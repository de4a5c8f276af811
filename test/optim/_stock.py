"""An interpreter that imports the unpatched release, for comparisons with it."""

import os
import subprocess
import sys
from pathlib import Path

from _guard import UNPATCHED


#: Names an interpreter that has the release installed. By default the release is
#: taken from the installed torch, with the patches reversed.
STOCK_PYTHON = "OPTIM_NAMES_STOCK_PYTHON"

ROOT = Path(__file__).resolve().parents[2]


def run_in_stock(script: Path, *arguments: str) -> str:
    """Run a script with the unpatched release.

    Args:
        script (Path): the script.
        arguments (str): its arguments.

    Returns:
        str: what it printed.

    Raises:
        RuntimeError: if it fails, with what it printed as errors.
    """
    interpreter = os.environ.get(STOCK_PYTHON)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if interpreter is None:
        sys.path.insert(0, str(ROOT))
        try:
            from tools import view
        finally:
            sys.path.remove(str(ROOT))
        interpreter, environment = sys.executable, view.stock_environment()
    done = subprocess.run(
        [interpreter, str(script), *arguments],
        env={**environment, UNPATCHED: "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{script.name} failed on the release:\n{done.stderr}")
    return done.stdout
