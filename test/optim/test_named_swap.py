# Owner(s): ["module: optimizer"]

"""``swap_in_optimizer_params_and_state`` with the state dict of a named optimizer."""

from copy import deepcopy

import torch
from _common import make_params, OptimTestCase
from torch.optim import Adam, swap_in_optimizer_params_and_state
from torch.testing._internal.common_optimizers import optim_db
from torch.testing._internal.common_utils import run_tests


ADAM = next(info for info in optim_db if info.optim_cls is Adam)


class TestNamedSwap(OptimTestCase):
    def _stepped(self, named: bool):
        params = make_params(ADAM)
        optimizer = Adam(params if named else list(params.values()), lr=0.1)
        for param in params.values():
            param.grad = torch.ones_like(param)
        optimizer.step()
        return optimizer, params

    def test_a_step_on_what_is_swapped_in(self):
        results = []
        for named in (True, False):
            optimizer, params = self._stepped(named)
            other = {name: p.detach().clone() * 2 for name, p in params.items()}
            for param in other.values():
                param.grad = torch.ones_like(param)
            before = [params[name].detach().clone() for name in params]
            state = deepcopy(optimizer.state_dict())
            groups = deepcopy(optimizer.state_dict()["param_groups"])
            with swap_in_optimizer_params_and_state(optimizer, other, state):
                optimizer.step()
            self.assertEqual([p.detach() for p in params.values()], before)
            self.assert_same(optimizer.state_dict()["param_groups"], groups)
            results.append([*other.values(), *map(list, state["state"].values())])
            # Edits in place reach the state dict that was passed.
            for entry in state["state"].values():
                self.assertEqual(entry["step"], 2)
        self.assert_same(*results)

    def test_names_in_another_order_are_refused(self):
        optimizer, params = self._stepped(True)
        state = deepcopy(optimizer.state_dict())
        state["param_groups"][0]["params"].reverse()
        with self.assertRaisesRegex(RuntimeError, "packed parameter ids"):
            with swap_in_optimizer_params_and_state(optimizer, params, state):
                pass


if __name__ == "__main__":
    run_tests()
