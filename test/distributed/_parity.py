"""Compare what optimizers without names do here with what they do in the release.

A module of cases has ``WORLD_SIZE`` and ``CASES``, which maps the name of each
case to a function without arguments. Each rank calls all of them, in order;
what they return or raise is described as plain values, in this torch and in the
unpatched release.
"""

import importlib
import warnings
from typing import Any

from _distributed import in_processes

from _describe import describe, difference  # isort: skip
from _stock import in_stock  # isort: skip
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
        there = in_stock(results, cls.module)
        cls.ours = results(cls.module)
        cls.theirs = there.result()

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
