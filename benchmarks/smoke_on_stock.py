"""The smoke test of CI, where linear code is replaced by that of the release.

Run ``python benchmarks/smoke_on_stock.py``. It runs ``test/optim/test_linear.py`` as
it is, then with single methods of the release in place of those of the series, then
on the release itself, and says how many tests see it. Such a run counts operations
only, so that it does not matter what else the machine does.
"""

import argparse
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Sequence

import environments
import report

from tools import layout
from tools.errors import ToolError


TESTS = layout.ROOT / "test" / "optim" / "test_linear.py"

#: Methods of the optimizer that are replaced.
REPLACED = {
    "nothing": (),
    "loading": ("load_state_dict", "_process_value_according_to_param_policy"),
    "construction": ("__init__", "add_param_group"),
}
RELEASE = "everything"

_RELEASE_FILE = "OPTIM_NAMES_RELEASE_FILE"
_SUMMARY = re.compile(r"(\d+) (passed|failed|skipped)")


def replace(methods: Sequence[str]) -> None:
    """Give the optimizer methods of the release.

    Args:
        methods (sequence of str): their names.
    """
    import torch

    name = "torch.optim._release_optimizer"
    spec = importlib.util.spec_from_file_location(name, os.environ[_RELEASE_FILE])
    assert spec is not None and spec.loader is not None
    release = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(release)
    for method in methods:
        setattr(torch.optim.Optimizer, method, release.Optimizer.__dict__[method])


def run(what: str, environment: dict[str, str], limit: int) -> dict[str, int]:
    """Run the tests in a process of their own.

    Args:
        what (str): what is replaced.
        environment (dict): environment variables of the process.
        limit (int): seconds it may take.

    Returns:
        dict: numbers of tests, by ``"passed"``, ``"failed"``, ``"skipped"``.

    Raises:
        ToolError: if there is no result.
    """
    command = [sys.executable, __file__, "--child", what]
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", timeout=limit
    )
    lines = done.stdout.strip().splitlines() or [""]
    found = {outcome: int(number) for number, outcome in _SUMMARY.findall(lines[-1])}
    if not found:
        raise ToolError(f"The tests did not run:\n{done.stdout}{done.stderr}")
    return found


def _child(what: str) -> int:
    import pytest

    sys.path.insert(0, str(TESTS.parent))
    if REPLACED.get(what):
        replace(REPLACED[what])
    options = ["-q", "-p", "no:cacheprovider", "--no-header", "--tb=no", "-r", ""]
    return pytest.main([*options, "--rootdir", str(layout.ROOT), str(TESTS)])


def main() -> int:
    """Run the tests in all ways, and print a table.

    Returns:
        int: the exit status: 1 if the tests fail as they are, or do not see
        something that is replaced.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _child(options.child)
    try:
        # Not the environments of a run of optim_state.py, which may be at work.
        work = environments.WORK / "smoke"
        by_kind = environments.make(work)
        release = str(work / "stock" / "torch" / "optim" / "optimizer.py")
        rows, wrong = [], []
        for what in (*REPLACED, RELEASE):
            kind: environments.Kind = "stock" if what == RELEASE else "patched"
            variables = {_RELEASE_FILE: release, "OPTIM_NAMES_TEST_UNPATCHED": "1"}
            found = run(what, {**by_kind[kind], **variables}, limit=600)
            failed, passed = found.get("failed", 0), found.get("passed", 0)
            rows.append([what, f"{failed:,}", f"{passed:,}"])
            if bool(failed) == (what == "nothing"):
                wrong.append(what)
    except (ToolError, subprocess.TimeoutExpired) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report.table(["replaced by the release's", "failed", "passed"], rows))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
