# Owner(s): ["module: optimizer"]

"""State that needs no cast is copied, as if the policy had been asked for each value.

What is expected is what a load does if the policy for a value is another function,
for then it is called for each.
"""

import copy
from collections import OrderedDict
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

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

import torch
from torch.optim import Optimizer
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import parametrize, run_tests


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


def _another_one_each(state_dict: dict[str, Any]) -> None:
    for number, state in enumerate(state_dict["state"].values()):
        state[f"more{number}"] = number


def _lists(state_dict: dict[str, Any]) -> None:
    for state in _of_params(state_dict):
        state["more"] = [torch.ones(2).double()]


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


def _ordered(state_dict: dict[str, Any]) -> None:
    state = state_dict["state"]
    state.update({key: OrderedDict(entry) for key, entry in state.items()})


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


def _tensors(loaded: Any) -> list[torch.Tensor]:
    return [
        value
        for _, state in loaded[0]
        if type(state) is dict
        for value in state.values()
        if isinstance(value, torch.Tensor)
    ]


#: Ways to change a saved state dict, by what is in it then.
EDITS = {
    "as_saved": _nothing,
    "double": _double,
    "list": _one_more([1, [2.0]]),
    "lists": _lists,
    "dict": _one_more({"a": torch.ones(2).double()}),
    "another_dtype": _one_more(torch.ones(3).double()),
    "none": _one_more(None),
    "int": _one_more(3),
    "another_one_each": _another_one_each,
    "subclass": _subclass,
    "without_some": _without_some,
    "others_between": _others_between,
    "backwards": _backwards,
    "entries_backwards": _entries_backwards,
    "ordered": _ordered,
    "integer_steps": _integer_steps,
    "plain_steps": _plain_steps,
    "capturable": _capturable,
    "capturable_and_integer_steps": _capturable_and_integer_steps,
}

#: The form of the file, and whether the optimizer that loads it has names.
KINDS = {"named": (dict, True), "indexed": (indexed, False)}


class TestLoadCasts(OptimTestCase):
    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("kind", KINDS)
    def test_in_bulk_as_one_by_one(self, device, dtype, optim_info, kind):
        params = make_params(optim_info, device, dtype)
        optimizer = build(optim_info, params)
        train(optim_info, optimizer, params, range(2))
        form, named = KINDS[kind]
        for about, edit in EDITS.items():
            file = form(saved(optimizer))
            edit(file)
            before = describe(file)
            with self.subTest(about):
                with patch.object(
                    Optimizer,
                    "_process_value_according_to_param_policy",
                    staticmethod(_each_value),
                ):
                    expected = self._load(optim_info, params, named, file)
                found = self._load(optim_info, params, named, file)
                self.assert_same(found, expected)
                # Those of the file, where they need no cast
                of_file = {
                    id(value)
                    for state in file["state"].values()
                    for value in state.values()
                }
                for there, here in zip(_tensors(expected), _tensors(found)):
                    self.assertTrue(
                        here is there or not {id(here), id(there)} & of_file
                    )
                self.assert_still(file, before)

    def _load(self, info, params, named, file):
        """The state and the options of an optimizer that loaded a file."""
        optimizer = build(info, list(params.items() if named else params.values()))
        optimizer.load_state_dict(file)
        names = {param: name for name, param in params.items()}
        return (
            [(names.get(key, key), value) for key, value in optimizer.state.items()],
            [dict(group, params=[]) for group in optimizer.param_groups],
        )

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


instantiate_device_type_tests(TestLoadCasts, globals(), only_for=DEVICE_TYPES)


if __name__ == "__main__":
    run_tests()
