# Owner(s): ["oncall: distributed"]
"""Sharded and wrapping optimizers without names do what they do in the release."""

import _cases_optim
from _parity import ParityTestCase

# isort: split
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
)


class TestUnnamedOptimParity(ParityTestCase):
    module = "_cases_optim"

    @parametrize("name", list(_cases_optim.CASES))
    def test_equals_the_release(self, name: str) -> None:
        self.assert_case_equals_the_release(name, raises=name in _cases_optim.ERRORS)


instantiate_parametrized_tests(TestUnnamedOptimParity)


if __name__ == "__main__":
    run_tests()
