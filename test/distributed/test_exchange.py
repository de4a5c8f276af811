# Owner(s): ["oncall: distributed checkpointing"]

"""The release and this torch read each other's files, as the same program does.

What `docs/compatibility.md` says about distributed training.
"""

import tempfile
from pathlib import Path

import _exchange

from _stock import in_stock  # isort: skip
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
    TestCase,
)


RATES = [0.1, 0.05]
CASES = list(_exchange.CASES)

#: In which the keys of a distributed checkpoint are those of ``state_dict()``.
KEYED_BY_OPTIMIZER = [name for name in CASES if name.startswith("raw_own")]

names_there = [
    subtest((saved_named, named), name=f"{_saved}_to_{_loading}")
    for saved_named, _saved in ((True, "named"), (False, "unnamed"))
    for named, _loading in ((True, "named"), (False, "unnamed"))
]


class TestExchange(TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        folders = {name: str(Path(folder.name, name)) for name in ("release", "here")}
        for path in folders.values():
            Path(path).mkdir()
        written = in_stock(_exchange.write_on_all_ranks, folders["release"])
        _exchange.write_on_all_ranks(folders["here"])
        written.result()
        read = in_stock(_exchange.read_on_all_ranks, folders)
        cls.here = _exchange.read_on_all_ranks(folders)
        cls.release = read.result()

    @parametrize("case", CASES)
    @parametrize("writer", ["release", "here"])
    @parametrize("saved_named, named", names_there)
    def test_read_here(self, case, writer, saved_named, named):
        for outcomes in self.here:
            outcome = outcomes.get((writer, case, saved_named, named))
            if outcome is None:
                self.assertTrue(writer == "release" and "zero" in case and saved_named)
            elif case in KEYED_BY_OPTIMIZER and named != (
                saved_named and writer == "here"
            ):
                # Other keys, which the user guide says how to read
                self.assertEqual(outcome[0], "RuntimeError")
                self.assertIn("Missing key in checkpoint", outcome[1])
            else:
                self.assertEqual(outcome[:2], ("resumed", RATES))
                if named:
                    self.assertNotIn(None, outcome[2])

    @parametrize("case", CASES)
    @parametrize("saved_named, named", names_there)
    def test_read_by_the_release(self, case, saved_named, named):
        for outcomes in self.release:
            ours = outcomes.get(("here", case, saved_named, named))
            theirs = outcomes.get(("release", case, saved_named, named))
            if ours is None:
                self.assertTrue("zero" in case and named)
            elif saved_named and case == "zero_own":
                self.assertEqual(ours[0], "TypeError")
            elif saved_named and case in KEYED_BY_OPTIMIZER:
                self.assertEqual(ours[0], "RuntimeError")
                self.assertIn("Missing key in checkpoint", ours[1])
            elif saved_named and case.startswith(("fsdp", "zero")):
                # The release takes over FQNs as names, or has no such file
                self.assertEqual(ours[:2], ("resumed", RATES))
            else:
                # The same names, too, and the same error where its own file has one
                self.assertEqual(ours, theirs)
                if saved_named == named:
                    self.assertEqual(ours[:2], ("resumed", RATES))


instantiate_parametrized_tests(TestExchange)


if __name__ == "__main__":
    run_tests()
