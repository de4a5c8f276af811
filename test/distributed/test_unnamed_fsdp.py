# Owner(s): ["oncall: distributed"]
"""FSDP, ``fully_shard`` and DDP give optimizers without names what the release does."""

from _parity import ParityTestCase

# ruff: isort: split
from _cases_fsdp import CASES, ERRORS
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
)


class TestUnnamedFSDP(ParityTestCase):
    module = "_cases_fsdp"

    @parametrize("name", list(CASES))
    def test_equals_the_release(self, name: str):
        self.assert_case_equals_the_release(name, raises=name in ERRORS)


instantiate_parametrized_tests(TestUnnamedFSDP)


if __name__ == "__main__":
    run_tests()
