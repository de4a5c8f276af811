"""Third-party optimizers on patched torch, compared with stock torch.

    pip install torch==2.13.0 -r test/thirdparty/requirements.txt
    python -m tools python test/thirdparty/run.py [--write] [PACKAGE ...]

To be run with the patched torch, as ``python -m tools python`` does, or with one
that is installed. Stock torch is that of ``--stock``, or is made of the installed
one. Packages that are not installed are left out, with a line that says so.
``--write`` writes the results to ``docs/third-party.md`` if all were run.

The exit status is 1 if a class without names is not as on stock torch, or falls
short of a check for a reason that reasons.py does not give. torchao compiles its
steps: that needs a C++ compiler and takes most of the five minutes.
"""

import argparse
import importlib.util
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "third-party.md"
sys.path[:0] = [str(ROOT), str(HERE)]

from tools import files  # noqa: E402
from tools.errors import ToolError  # noqa: E402
from tools.view import stock_environment  # noqa: E402


def main() -> int:
    """Run the checks; see the module."""
    options = _options()
    if importlib.util.find_spec("torch.optim._param_names") is None:
        return _refuse(
            "This torch is not patched. Run: python -m tools python "
            "test/thirdparty/run.py"
        )
    # Not before it is known that there is a torch to import.
    from catalog import NOT_RUN, PACKAGES, version
    from report import judge, problems, table

    unknown = [package for package in options.packages if package not in PACKAGES]
    if unknown:
        return _refuse(f"No such package: {unknown[0]}. There are {list(PACKAGES)}.")
    packages = options.packages or list(PACKAGES)
    missing = [package for package in packages if version(package) is None]
    for package in missing:
        print(f"{package} is not installed and left out.")
    try:
        stock = _stock(options.stock)
    except ToolError as error:
        return _refuse(str(error))

    results, verdicts, wrong = {}, {}, []
    for package in packages:
        if package in missing:
            continue
        old = _work([options.stock or sys.executable], package, stock)
        new = _work([sys.executable], package, dict(os.environ))
        if old["patched"] or not new["patched"]:
            return _refuse("The one torch has to be stock, and the other patched.")
        results[package] = new
        verdicts[package] = [
            judge(name, old["classes"][name], new["classes"][name])
            for name in new["classes"]
        ]
        found = list(problems(package, verdicts[package]))
        print(f"{package}: {len(verdicts[package])} classes", *found, sep="\n  ")
        wrong += found
    if options.write:
        if wrong or missing or options.packages:
            return _refuse("Nothing written: not all was run, or not all went well.")
        page = table(results, verdicts, NOT_RUN)
        files.replace({PAGE: page.encode()})
    return 1 if wrong or not results else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="only these")
    parser.add_argument(
        "--stock", metavar="PYTHON", help="an interpreter with stock torch"
    )
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    return parser.parse_args()


def _stock(python: str | None) -> dict[str, str]:
    """The environment in which stock torch is imported."""
    if python is None:
        return stock_environment()
    return {key: v for key, v in os.environ.items() if key != "PYTHONPATH"}


def _work(python: list[str], package: str, environment: Mapping[str, str]) -> Any:
    """Run the worker in another process and read what it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results"
        command = [*python, str(HERE / "worker.py"), package, str(file)]
        # Some of the classes print.
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode or not file.is_file():
            raise SystemExit(f"{package} could not be run:\n{done.stderr}")
        return pickle.loads(file.read_bytes())


def _refuse(line: str) -> int:
    print(line, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
