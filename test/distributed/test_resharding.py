# Owner(s): ["oncall: distributed checkpointing"]

"""Save over four processes, load over two or one, in another order and grouping.

A model is sharded with FSDP2, and trained. Each case of :mod:`_resharding` loads
what was saved, into optimizers that are arranged differently, and goes on. It must
end as the run that never stopped, bit for bit: values, state, and options.
"""

from typing import Any

import _resharding
from _resharding import Case, NAMED_CASES, REFUSED_CASES, Runs, UNNAMED_CASES

from _describe import describe, difference  # isort: skip
from _stock import in_stock  # isort: skip
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
    TestCase,
)


#: How many processes train and save, and how many continue.
SAVING = 4
CONTINUING = (2, 1)

#: The same in the release. The results are those over any number.
THERE = (2, [1])


def by_name(cases: list[Case]) -> list[Any]:
    return [subtest(case, name=str(case)) for case in cases]


class TestResharding(TestCase):
    ours: Runs
    theirs: Runs

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cases = NAMED_CASES + REFUSED_CASES + UNNAMED_CASES
        there = in_stock(_resharding.runs, UNNAMED_CASES, *THERE)
        cls.ours = _resharding.runs(cases, SAVING, CONTINUING)
        cls.theirs = there.result()

    def assert_equal(self, first: Any, second: Any, about: str) -> None:
        found = difference(describe(first), describe(second))
        self.assertIsNone(found, f"{about}: {found}")

    def assert_continued(self, case: Case, world_size: int) -> None:
        """On each rank, the case ended as the run that never stopped."""
        expected = self.ours.saving[0]["same True"]
        self.assertEqual(len(self.ours.continuing[world_size]), world_size)
        for rank, found in enumerate(self.ours.continuing[world_size]):
            ended = found[str(case)]
            self.assertIsInstance(ended, dict, f"rank {rank}: {ended}")
            self.assert_equal(ended, expected, f"on rank {rank}, not as without a stop")

    def test_the_runs_that_never_stop_are_the_same(self):
        # One optimizer, two, and one without names; on each rank.
        self.assertEqual(len(self.ours.saving), SAVING)
        expected = self.ours.saving[0]["same True"]
        for found in self.ours.saving:
            for run in ("same True", "split True", "same False"):
                self.assert_equal(found[run], expected, run)

    def test_the_release_trains_the_same(self):
        expected = self.ours.saving[0]["same True"]
        for found in self.theirs.saving:
            self.assert_equal(found["same False"], expected, "there, not here")

    @parametrize("world_size", CONTINUING)
    @parametrize("case", by_name(NAMED_CASES))
    def test_resume(self, case, world_size):
        self.assert_continued(case, world_size)

    @parametrize("world_size", CONTINUING)
    @parametrize("case", by_name(REFUSED_CASES))
    def test_other_number_of_groups_is_an_error(self, case, world_size):
        for found in self.ours.continuing[world_size]:
            ended = found[str(case)]
            self.assertIsInstance(ended, str)
            self.assertIn("Missing key in checkpoint", ended)
            self.assertIn("param_groups.2.", ended)

    @parametrize("world_size", CONTINUING)
    @parametrize("case", by_name(UNNAMED_CASES))
    def test_resume_unnamed(self, case, world_size):
        self.assert_continued(case, world_size)

    @parametrize("case", by_name(UNNAMED_CASES))
    def test_unnamed_equals_the_release(self, case):
        # The checkpoint, and the run that continues from it, on each rank.
        (saved, _), (ended,) = self.theirs.saving, self.theirs.continuing[1]
        self.assertIsInstance(ended[str(case)], dict, ended[str(case)])
        for ours in self.ours.saving:
            key = f"saved {case.way}"
            self.assert_equal(ours[key], saved[key], "saved here, not there")
        for world_size in CONTINUING:
            for ours in self.ours.continuing[world_size]:
                self.assert_equal(ours[str(case)], ended[str(case)], "here, not there")


instantiate_parametrized_tests(TestResharding)


if __name__ == "__main__":
    run_tests()
