"""Compare what optimizers without names do here with what they do in the release.

A module of cases has ``WORLD_SIZE`` and ``CASES``, which maps the name of each
case to a function without arguments. Each rank calls all of them, in order;
what they return or raise is described as plain values, in this torch and in the
unpatched release.
"""

import importlib
import pickle
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from _distributed import in_processes

from _describe import describe, difference  # isort: skip
from _stock import run_in_stock  # isort: skip
from torch.testing._internal.common_utils import TestCase


#: What happened on each rank in each case, by the case's name.
Results = list[dict[str, Any]]


def results(module: str) -> Results:
    """Run all cases of a module here.

    Args:
        module (str): the name of the module.

    Returns:
        list of dict: one for each rank: a description of what each case
        returned, or raised, by its name.
    """
    world_size = importlib.import_module(module).WORLD_SIZE
    return in_processes(world_size, _run_cases, module)


def _run_cases(rank: int, module: str) -> dict[str, Any]:
    found = {}
    for name, case in importlib.import_module(module).CASES.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found[name] = describe(case())
            except Exception as error:
                found[name] = ("raised", type(error).__name__, str(error))
    return found


class ParityTestCase(TestCase):
    """Compares the cases of a module; a subclass says which, and has the tests."""

    module: str

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
            file = Path(folder) / "stock.pickle"
            there = pool.submit(run_in_stock, Path(__file__), cls.module, str(file))
            cls.ours = results(cls.module)
            there.result()
            patched, cls.theirs = pickle.loads(file.read_bytes())
        if patched:
            raise RuntimeError("The torch that should be the release is patched.")

    def assert_case_equals_the_release(
        self, name: str, *, raises: bool = False
    ) -> None:
        """Compare one case on all ranks.

        Args:
            name (str): the case.
            raises (bool): whether the case is one that raises an error.
        """
        self.assertEqual(len(self.ours), len(self.theirs))
        for rank, (ours, theirs) in enumerate(zip(self.ours, self.theirs, strict=True)):
            self.assertEqual(theirs[name][0] == "raised", raises, theirs[name])
            found = difference(ours[name], theirs[name])
            self.assertIsNone(found, f"on rank {rank}, here, not there: {found}")


if __name__ == "__main__":
    import _parity  # so that spawned processes find what is pickled by its name
    import torch.optim

    _, cases, out = sys.argv
    patched = hasattr(torch.optim, "_param_names")
    Path(out).write_bytes(pickle.dumps((patched, _parity.results(cases))))
