"""An interpreter that imports the unpatched release, for comparisons with it."""

import atexit
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from _guard import UNPATCHED


#: Names an interpreter that has the release installed. By default the release is
#: taken from the installed torch, with the patches reversed.
STOCK_PYTHON = "OPTIM_NAMES_STOCK_PYTHON"

ROOT = Path(__file__).resolve().parents[2]

# One thread, since there is one interpreter, which answers one call at a time.
_POOL = ThreadPoolExecutor(1)


def in_stock(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Call a function in an interpreter that has the unpatched release.

    The interpreter is started once, and works while this one goes on.

    Args:
        function (Callable): of a module of the tests.
        args: its arguments. They and the result must be such as can be pickled.

    Returns:
        Future: has the result, or a RuntimeError with what was raised there.
    """
    file = sys.modules[function.__module__].__file__
    return _POOL.submit(
        _call,
        (str(Path(str(file)).parent), function.__module__, function.__name__),
        args,
    )


def _call(place: tuple[str, str, str], args: tuple[Any, ...]) -> Any:
    process = _interpreter()
    # One after the other: to read the arguments may take modules of the folder.
    process.stdin.write(pickle.dumps(place) + pickle.dumps(args))
    process.stdin.flush()
    try:
        result, error = pickle.load(process.stdout)
    except EOFError:
        error = f"The interpreter of the release ended; {STOCK_PYTHON} may name another"
    if error is not None:
        raise RuntimeError(f"{place[1]}.{place[2]} failed on the release:\n{error}")
    return result


@cache
def _interpreter() -> Any:
    python = os.environ.get(STOCK_PYTHON)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if python is None:
        sys.path.insert(0, str(ROOT))
        try:
            from tools import view
        finally:
            sys.path.remove(str(ROOT))
        python, environment = sys.executable, view.stock_environment()
    process = subprocess.Popen(
        [python, __file__],
        env={**environment, UNPATCHED: "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    atexit.register(process.kill)
    return process


def _answer(module: str, name: str, args: tuple[Any, ...]) -> Any:
    """What a call returns, and what it raises."""
    import importlib

    import torch.optim

    torch.set_num_threads(1)
    try:
        if hasattr(torch.optim, "_param_names"):
            raise RuntimeError(
                f"The torch in {torch.__file__}, which should be the release, is "
                f"patched. Unset {STOCK_PYTHON}, or name an interpreter with another."
            )
        return getattr(importlib.import_module(module), name)(*args), None
    except Exception:
        return None, traceback.format_exc()


if __name__ == "__main__":
    # What is printed is no answer.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while True:
        try:
            folder, module, name = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        if folder not in sys.path:
            sys.path.insert(0, folder)
        pickle.dump(_answer(module, name, pickle.load(sys.stdin.buffer)), answers)
        answers.flush()
