# Owner(s): ["module: optimizer"]

"""State that needs no cast is copied in bulk, as if each value had been looked at.

What is expected is what a load does if the policy for a value is another function,
for then it is called for each.
"""

import copy
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from _common import (
    build,
    DEVICE_TYPES,
    indexed,
    make_params,
    OptimTestCase,
    saved,
    train,
    trained,
)
from _describe import describe
from torch.nn import Parameter
from torch.optim import Optimizer, SGD
from torch.optim._param_names.casting import all_stay, casts_step
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


BATCH = "torch.optim._param_names.loading.BATCH"

POLICY = Optimizer._process_value_according_to_param_policy


def _each_value(*args: Any, **kwargs: Any) -> torch.Tensor:
    """The same policy, but another function."""
    return POLICY(*args, **kwargs)


class _Tensor(torch.Tensor):
    """What may do anything, but does what a tensor does."""


def _of_params(state_dict: dict[str, Any]) -> list[dict[str, Any]]:
    return [state for state in state_dict["state"].values() if "step" in state]


def _nothing(state_dict: dict[str, Any]) -> None:
    pass


def _double(state_dict: dict[str, Any]) -> None:
    for state in list(state_dict["state"].values())[1:]:
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                state[key] = value.double()


def _one_more(value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(state_dict: dict[str, Any]) -> None:
        *_, last = state_dict["state"].values()
        last["more"] = copy.copy(value)

    return edit


def _subclass(state_dict: dict[str, Any]) -> None:
    for state in state_dict["state"].values():
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                state[key] = value.as_subclass(_Tensor)


def _without_some(state_dict: dict[str, Any]) -> None:
    for key in list(state_dict["state"])[::2]:
        del state_dict["state"][key]


def _others_between(state_dict: dict[str, Any]) -> None:
    state_dict["state"] = {
        key: state
        for number, entry in enumerate(state_dict["state"].items())
        for key, state in (entry, (("other", number), {"of": [number]}))
    }


def _backwards(state_dict: dict[str, Any]) -> None:
    state_dict["state"] = dict(reversed(state_dict["state"].items()))


def _entries_backwards(state_dict: dict[str, Any]) -> None:
    first, *_ = state_dict["state"]
    state = state_dict["state"][first]
    state_dict["state"][first] = dict(reversed(state.items()))


def _integer_steps(state_dict: dict[str, Any]) -> None:
    for state in _of_params(state_dict):
        state["step"] = torch.as_tensor(state["step"]).long()


def _plain_steps(state_dict: dict[str, Any]) -> None:
    for state in _of_params(state_dict):
        state["step"] = float(state["step"])


def _capturable(state_dict: dict[str, Any]) -> None:
    for group in state_dict["param_groups"]:
        group["capturable"] = True


def _capturable_and_integer_steps(state_dict: dict[str, Any]) -> None:
    _capturable(state_dict)
    _integer_steps(state_dict)


#: Ways to change a saved state dict, and what is in it then.
EDITS = [
    subtest(_nothing, "as_saved"),
    subtest(_double, "double"),
    subtest(_one_more([1, [2.0]]), "list"),
    subtest(_one_more({"a": torch.ones(2).double()}), "dict"),
    subtest(_one_more(torch.ones(3).double()), "another_dtype"),
    subtest(_one_more(None), "none"),
    subtest(_one_more(3), "int"),
    subtest(_subclass, "subclass"),
    subtest(_without_some, "without_some"),
    subtest(_others_between, "others_between"),
    subtest(_backwards, "backwards"),
    subtest(_entries_backwards, "entries_backwards"),
    subtest(_integer_steps, "integer_steps"),
    subtest(_plain_steps, "plain_steps"),
    subtest(_capturable, "capturable"),
    subtest(_capturable_and_integer_steps, "capturable_and_integer_steps"),
]

#: The form of the file, and whether the optimizer that loads it has names.
KINDS = {"named": (dict, True), "indexed": (indexed, False)}


class TestLoadCasts(OptimTestCase):
    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("edit", EDITS)
    @parametrize("kind", KINDS)
    def test_in_bulk_as_one_by_one(self, device, dtype, optim_info, edit, kind):
        params = make_params(optim_info, device, dtype)
        optimizer = build(optim_info, params)
        train(optim_info, optimizer, params, range(2))
        form, named = KINDS[kind]
        file = form(saved(optimizer))
        edit(file)
        before = describe(file)

        def load() -> tuple[Any, list[Any]]:
            params = make_params(optim_info, device, dtype)
            fresh = build(
                optim_info, list(params.items() if named else params.values())
            )
            fresh.load_state_dict(file)
            names = {id(param): name for name, param in params.items()}
            state = [
                (names.get(id(key), str(key)), value)
                for key, value in fresh.state.items()
            ]
            return describe(
                (state, [dict(g, params=[]) for g in fresh.param_groups])
            ), [
                (name, key, id(value), value)
                for name, entries in state
                for key, value in (entries.items() if type(entries) is dict else ())
                if isinstance(value, torch.Tensor)
            ]

        with patch.object(
            Optimizer,
            "_process_value_according_to_param_policy",
            staticmethod(_each_value),
        ):
            expected, expected_tensors = load()
        for size in (1, 2, 128):
            with patch(BATCH, size):
                found, tensors = load()
            self.assertEqual(found, expected)
            # Those of the file, where they need no cast
            of_file = {
                id(value)
                for state in file["state"].values()
                for value in state.values()
            }
            for (*_, there, _), (*_, here, _) in zip(expected_tensors, tensors):
                self.assertTrue(here == there or not {here, there} & of_file)
        self.assert_still(file, before)

    @optims(optim_db, dtypes=[torch.float32])
    def test_what_is_in_place_of_the_policy_sees_each_value(
        self, device, dtype, optim_info
    ):
        optimizer, _ = trained(optim_info, device, dtype)
        file = saved(optimizer)
        expected = [
            (name, key)
            for name, state in file["state"].items()
            for key, value in state.items()
            if isinstance(value, torch.Tensor)
        ]
        seen = []

        def record(param, value, param_id, param_groups, key=None):
            seen.append((param_id, key))
            self.assertIn(param_id, param_groups[0]["params"])
            return POLICY(param, value, param_id, param_groups, key)

        with patch.object(
            Optimizer, "_process_value_according_to_param_policy", staticmethod(record)
        ):
            optimizer.load_state_dict(file)
        self.assertEqual([s for s in seen if s[1] is not None], expected)

    def test_collections_go_on_after_a_load(self, device):
        import gc

        param = Parameter(torch.ones(2, device=device))
        optimizer = SGD({"a": param}, momentum=0.9)
        optimizer.state[param]["momentum_buffer"] = torch.ones(2, device=device)
        good, bad = optimizer.state_dict(), optimizer.state_dict()
        bad["state"] = {"a": {"momentum_buffer": torch.ones(3, device=device)}}
        on = gc.isenabled()
        try:
            for turn in (gc.enable, gc.disable):
                turn()
                before = gc.isenabled()
                optimizer.load_state_dict(good)
                self.assertEqual(gc.isenabled(), before)
                with self.assertRaisesRegex(ValueError, "size mismatch"):
                    optimizer.load_state_dict(bad)
                self.assertEqual(gc.isenabled(), before)
        finally:
            (gc.enable if on else gc.disable)()


instantiate_device_type_tests(TestLoadCasts, globals(), only_for=DEVICE_TYPES)


class TestWhatStays(OptimTestCase):
    @parametrize(
        "options,expected",
        [
            subtest(({}, False), "none"),
            subtest(({"fused": None, "capturable": False}, False), "off"),
            subtest(({"fused": True}, True), "fused"),
            subtest(({"capturable": True, "fused": None}, True), "capturable"),
            subtest(({"capturable": torch.ones(2)}, None), "tensor"),
            subtest(({"fused": 1}, None), "int"),
        ],
    )
    def test_casts_step(self, options, expected):
        self.assertIs(casts_step([{"lr": 1}, options]), expected)
        self.assertIs(casts_step([options, {"fused": None}]), expected)

    def test_casts_step_of_no_dict(self):
        self.assertIsNone(casts_step([{}, ["fused"]]))
        self.assertIs(casts_step([]), False)

    @parametrize(
        "last,shaped,step_cast,expected",
        [
            subtest(({"m": torch.ones(2)}, (), False, True), "equal"),
            subtest(({"m": torch.ones(2)}, ("m",), False, True), "shape"),
            subtest(({"m": torch.ones(3)}, (), False, True), "shape_does_not_matter"),
            subtest(({"m": torch.ones(3)}, ("m",), False, False), "other_shape"),
            subtest(({"m": torch.ones(2).double()}, (), False, False), "other_dtype"),
            subtest(({"m": torch.ones(2, device="meta")}, (), False, False), "device"),
            subtest(({"m": 1}, (), False, False), "some_are_numbers"),
            subtest(({"m": torch.ones(2), "n": None}, ("n",), False, True), "none"),
            subtest(({"m": torch.ones(2), "n": 2}, ("n",), False, False), "number"),
            subtest(({"m": torch.ones(2), "n": [1]}, (), False, False), "list"),
            subtest(({"m": torch.ones(2), "n": "x"}, (), False, False), "str"),
            subtest(({}, (), False, True), "no_entries"),
            subtest(([], (), False, False), "no_dict"),
            subtest(({"step": torch.tensor(1)}, (), False, True), "integer_step"),
            subtest(({"step": torch.tensor(1)}, (), True, False), "step_is_cast"),
            subtest(({"step": torch.tensor(1.0)}, (), True, True), "step_is_float32"),
            subtest(
                ({"step": torch.ones((), device="meta")}, (), True, False), "moved"
            ),
            subtest(({"step": 1}, (), True, True), "step_is_a_number"),
        ],
    )
    def test_all_stay(self, last, shaped, step_cast, expected):
        params = [Parameter(torch.zeros(2)) for _ in range(3)]
        states = [{"m": torch.ones(2)}, {"m": torch.ones(2)}, last]
        for _ in states:
            self.assertIs(
                all_stay(states, params, param_shaped=shaped, step_cast=step_cast),
                expected,
            )
            states.append(states.pop(0))

    def test_all_stay_only_for_plain_parameters(self):
        states = [{"m": torch.ones(2)}]
        for param in (None, torch.zeros(2).as_subclass(_Tensor)):
            self.assertFalse(all_stay(states, [param], step_cast=False))
        self.assertTrue(all_stay(states, [torch.zeros(2)], step_cast=False))
        on_meta = Parameter(torch.zeros(2, device="meta"))
        self.assertFalse(all_stay(states, [on_meta], step_cast=False))
        states = [{"m": torch.ones(2, device="meta")}]
        self.assertTrue(all_stay(states, [on_meta], step_cast=False))


instantiate_parametrized_tests(TestWhatStays)


if __name__ == "__main__":
    run_tests()
