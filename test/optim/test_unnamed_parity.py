# Owner(s): ["module: optimizer"]

"""Optimizers without names are those of the release, case by case.

The release itself is the reference: an interpreter that imports it runs the
same cases as this one. OPTIM_NAMES_STOCK_PYTHON may name an interpreter that
has it installed; by default it is taken from the installed torch, with the
patches reversed.
"""

import re

import _parity_cases
from _common import OptimTestCase
from _describe import difference
from _stock import in_stock
from torch.testing._internal.common_optimizers import optim_db
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


#: Cases that differ on purpose, by what their names match, with the reason.
DELIBERATE: dict[str, str] = {
    "misuse, state of a tensor in no group": "the error says what is wrong",
    "load, a string as params": "the release fails as it looks for an index in a str",
}

#: Cases in which Python says that None is no dict, in words of its own. The type
#: of the error is that of the release.
OTHER_WORDS = "load, (groups are None|a group is None)"


class TestUnnamedParity(OptimTestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        there = in_stock(_parity_cases.results)
        cls.ours = _parity_cases.results()
        cls.theirs = there.result()

    def _deliberate(self, name: str) -> bool:
        return any(re.search(pattern, name) for pattern in DELIBERATE)

    def test_the_same_cases(self):
        more = [name for name in self.ours if name not in self.theirs]
        self.assertEqual([n for n in self.ours if n in self.theirs], list(self.theirs))
        # The patches add error inputs, all of them with names.
        for name in more:
            self.assertIn(": constructor, error input", name)
        self.assertGreater(len(self.theirs), 1000)

    @parametrize("info", [subtest(info, info.name) for info in optim_db])
    def test_equal(self, info):
        names = [name for name in self.theirs if name.startswith(f"{info.name}: ")]
        self.assertTrue(names)
        for name in names:
            if not self._deliberate(name):
                ours, theirs = self.ours[name], self.theirs[name]
                if re.search(OTHER_WORDS, name):
                    ours, theirs = ours[0][:2], theirs[0][:2]
                with self.subTest(name):
                    found = difference(ours, theirs)
                    self.assertIsNone(found, f"here, not there: {found}")

    def test_loads_fail_and_succeed(self):
        # That the cases are what they seem: some raise, and most do not.
        raised = [
            name for name, (result, _) in self.theirs.items() if result[0] == "raised"
        ]
        self.assertGreater(len(raised), 200)
        for name in raised:
            self.assertNotRegex(name, ": life")
        for name, (_, warned) in self.theirs.items():
            if "a parameter twice" in name:
                self.assertIn("UserWarning", [kind for kind, _ in warned])

    @parametrize("pattern", list(DELIBERATE))
    def test_deliberate_differences_are_there(self, pattern):
        matching = [name for name in self.ours if re.search(pattern, name)]
        self.assertTrue(any(self.ours[name] != self.theirs[name] for name in matching))


instantiate_parametrized_tests(TestUnnamedParity)


if __name__ == "__main__":
    run_tests()
