# Owner(s): ["module: optimizer"]

"""``swap_in_optimizer_params_and_state`` with the state dict of a named optimizer."""

import unittest
from copy import deepcopy

from _common import (
    build,
    GROUPED,
    in_groups,
    indexed,
    make_params,
    MATRICES_ONLY,
    OptimTestCase,
    renamed,
    snapshot,
    state_by_name,
    train,
    values,
    without_names,
)

import torch
from torch.optim import Adam
from torch.testing._internal.common_optimizers import optim_db
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


#: Not all releases have it.
swap_in_optimizer_params_and_state = getattr(
    torch.optim, "swap_in_optimizer_params_and_state", None
)

ADAM = next(info for info in optim_db if info.optim_cls is Adam)

#: Those whose state is kept under each parameter, in a dense form.
INFOS = [info for info in GROUPED if info.name not in MATRICES_ONLY]


def _entry(state_dict, edit):
    edit(state_dict)
    return state_dict


#: State dicts that are not what the optimizer itself would return.
OTHERS = {
    "reversed": lambda sd: _entry(
        sd, lambda d: d["param_groups"][0]["params"].reverse()
    ),
    "groups_reversed": lambda sd: _entry(sd, lambda d: d["param_groups"].reverse()),
    "other_names": lambda sd: renamed(sd, {"embed.weight": "embedding.weight"}),
    "same_shapes_swapped": lambda sd: renamed(
        sd, {"embed.weight": "conv.weight", "conv.weight": "embed.weight"}
    ),
}


@unittest.skipIf(
    swap_in_optimizer_params_and_state is None, "the release does not swap state in"
)
class TestNamedSwap(OptimTestCase):
    def _stepped(self, info, named):
        params = make_params(info)
        groups = in_groups(info, params)
        optimizer = build(info, groups if named else without_names(groups))
        train(info, optimizer, params, [0])
        return optimizer, params

    def _swapped_in(self, optimizer, params):
        """Other parameters and state, in the order of the optimizer."""
        state_dict = deepcopy(optimizer.state_dict())
        names = {id(param): name for name, param in params.items()}
        other = {
            names[id(param)]: param.detach().clone() * 2
            for group in optimizer.param_groups
            for param in group["params"]
        }
        return other, state_dict

    @parametrize("info", [subtest(info, info.name) for info in INFOS])
    @parametrize("kind", ["named", "unnamed", "indexed"])
    def test_a_step_on_what_is_swapped_in(self, info, kind):
        """As that of an optimizer that has these parameters and this state."""
        optimizer, params = self._stepped(info, kind != "unnamed")
        other, state_dict = self._swapped_in(optimizer, params)
        state_dict["param_groups"][1]["lr"] = 0.5
        if kind == "indexed":
            # The names are those of the live groups, which must have the same keys.
            state_dict = indexed(state_dict)
            for group, live in zip(state_dict["param_groups"], optimizer.param_groups):
                group["param_names"] = live["param_names"]

        expected_params = {
            name: torch.nn.Parameter(value.clone()) for name, value in other.items()
        }
        groups = in_groups(info, expected_params)
        expected = build(info, groups if kind != "unnamed" else without_names(groups))
        expected.load_state_dict(deepcopy(state_dict))
        train(info, expected, expected_params, [1])

        before = snapshot(optimizer)
        kept = deepcopy(state_dict["param_groups"])
        with swap_in_optimizer_params_and_state(optimizer, other, state_dict):
            train(info, optimizer, other, [1])
        self.assert_unchanged(optimizer, before)
        self.assert_same(state_dict["param_groups"], kept)
        self.assert_same(values(other), values(expected_params))
        # Edits in place reach the state dict that was passed.
        step = self._stepless(state_dict["state"])
        self.assert_same(
            step,
            self._stepless(
                dict(
                    zip(
                        state_dict["state"],
                        (expected.state[p] for p in expected_params.values()),
                    )
                )
            ),
        )

    def _stepless(self, state):
        return [
            {k: v for k, v in entry.items() if isinstance(v, torch.Tensor)}
            for entry in state.values()
        ]

    def test_unnamed_takes_no_names(self):
        """As on the release, where ids are integers."""
        optimizer, params = self._stepped(ADAM, False)
        named, _ = self._stepped(ADAM, True)
        before = snapshot(optimizer)
        with self.assertRaisesRegex(RuntimeError, "packed parameter ids"):
            with swap_in_optimizer_params_and_state(
                optimizer, params, deepcopy(named.state_dict())
            ):
                self.fail("should not be entered")
        self.assert_unchanged(optimizer, before)

    @parametrize("other", list(OTHERS))
    def test_another_order_or_other_names_are_refused(self, other):
        optimizer, params = self._stepped(ADAM, True)
        swapped_in, state_dict = self._swapped_in(optimizer, params)
        state_dict = OTHERS[other](state_dict)
        before = snapshot(optimizer)
        with self.assertRaisesRegex(RuntimeError, "packed parameter ids"):
            with swap_in_optimizer_params_and_state(optimizer, swapped_in, state_dict):
                self.fail("should not be entered")
        self.assert_unchanged(optimizer, before)

    @parametrize("groups", [None, [None, None], [{}, {}]])
    def test_what_is_no_state_dict(self, groups):
        optimizer, params = self._stepped(ADAM, True)
        swapped_in, _ = self._swapped_in(optimizer, params)
        with self.assertRaises(RuntimeError):
            with swap_in_optimizer_params_and_state(
                optimizer, swapped_in, {"state": {}, "param_groups": groups}
            ):
                self.fail("should not be entered")

    def test_an_error_inside_restores_names(self):
        optimizer, params = self._stepped(ADAM, True)
        swapped_in, state_dict = self._swapped_in(optimizer, params)
        before = snapshot(optimizer)
        with self.assertRaisesRegex(KeyError, "inside"):
            with swap_in_optimizer_params_and_state(optimizer, swapped_in, state_dict):
                optimizer.param_groups[0]["param_names"] = []
                raise KeyError("inside")
        self.assert_unchanged(optimizer, before)

    def test_state_dict_inside_has_the_names(self):
        optimizer, params = self._stepped(ADAM, True)
        swapped_in, state_dict = self._swapped_in(optimizer, params)
        with swap_in_optimizer_params_and_state(optimizer, swapped_in, state_dict):
            inside = optimizer.state_dict()
            self.assertEqual(
                [name for name, _ in optimizer.named_parameters()], list(swapped_in)
            )
            self.assert_same(
                state_by_name(optimizer, swapped_in), dict(state_dict["state"])
            )
        self.assert_same(inside["state"], state_dict["state"])


instantiate_parametrized_tests(TestNamedSwap)


if __name__ == "__main__":
    run_tests()
