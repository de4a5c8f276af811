# Owner(s): ["oncall: distributed checkpointing"]

"""Through distributed checkpoints, optimizers without names do what the release does."""

from _distributed import in_processes  # noqa: F401, isort: skip
from _cases_dcp import CASES
from _parity import ParityTestCase
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


class TestUnnamedDCP(ParityTestCase):
    module = "_cases_dcp"

    @parametrize("case", [subtest(name, name=name) for name in CASES])
    def test_equals_the_release(self, case):
        self.assert_case_equals_the_release(case)


instantiate_parametrized_tests(TestUnnamedDCP)


if __name__ == "__main__":
    run_tests()
