# Owner(s): ["module: optimizer"]

"""No tensor gets the name of another, whoever loads, and whenever."""

import copy
import pickle
import warnings
import weakref
from collections import defaultdict
from typing import Any

from _common import (
    annotated,
    build,
    DEVICE_TYPES,
    drop_names,
    GROUPED,
    indexed,
    MATRICES_ONLY,
    names_of,
    optimizer_of,
    OptimTestCase,
    snapshot,
)

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Adam, AdamW, SGD
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optims
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


#: Optimizers that cannot be constructed before the first forward, on any release.
NO_LAZY_PARAMETERS = {"Adagrad": "makes its state then", **MATRICES_ONLY}


class PositionalLoad(AdamW):
    """Loads by position without the base class, as old releases did."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        saved = copy.deepcopy(state_dict)
        ids = [i for group in saved["param_groups"] for i in group["params"]]
        params = [p for group in self.param_groups for p in group["params"]]
        at = dict(zip(ids, params))
        state = defaultdict(dict, {at.get(k, k): v for k, v in saved["state"].items()})
        groups = [
            {**new, "params": old["params"]}
            for old, new in zip(self.param_groups, saved["param_groups"])
        ]
        self.__setstate__({"state": state, "param_groups": groups})


def _param_names(state_dict: dict[str, Any], change: Any) -> dict[str, Any]:
    for group in state_dict["param_groups"]:
        group["param_names"] = change(group["param_names"])
    return state_dict


class TestPositionalLoads(OptimTestCase):
    """A subclass that loads by position gives no tensor the name of another."""

    @parametrize(
        "ours",
        [
            subtest(["ba", "cd"], "in_a_group"),
            subtest(["ac", "bd"], "between_groups"),
            subtest(["cd", "ab"], "groups"),
            subtest(["cb", "xd"], "one_is_new"),
        ],
    )
    @parametrize("make", [subtest(dict, "named"), subtest(annotated, "annotated")])
    def test_another_order_is_refused(self, ours, make):
        state_dict = make(optimizer_of(PositionalLoad, "ab", "cd").state_dict())
        target = optimizer_of(PositionalLoad, *ours, steps=2)
        before = snapshot(target)
        own, other = next(
            (own, other)
            for own, other in zip("".join(ours), "abcd")
            if own != other and other in "".join(ours)
        )
        with self.assertRaisesRegex(ValueError, f'"{own}" would be named "{other}"'):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)

    @parametrize(
        "change",
        [
            subtest(lambda names: names, "none"),
            subtest(lambda names: [f"module.{n}" for n in names], "prefix"),
            subtest(lambda names: [names[0], f"{names[1]}.x"], "some"),
        ],
    )
    def test_its_own_names_stay(self, change):
        source = optimizer_of(PositionalLoad, "ab", "cd")
        state_dict = _param_names(annotated(source.state_dict()), change)
        target = optimizer_of(PositionalLoad, "ab", "cd", steps=3)
        target.load_state_dict(state_dict)
        self.assertEqual(names_of(target), [["a", "b"], ["c", "d"]])
        self.assert_same(dict(target.named_state()), dict(source.named_state()))
        target.load_state_dict(indexed(source.state_dict()))
        self.assertEqual(names_of(target), [["a", "b"], ["c", "d"]])

    def test_one_without_names_takes_those_of_the_file(self):
        state_dict = optimizer_of(PositionalLoad, "ab", "cd").state_dict()
        target = drop_names(optimizer_of(PositionalLoad, "ba", "dc"))
        target.load_state_dict(state_dict)
        self.assertEqual(names_of(target), [["a", "b"], ["c", "d"]])

    @parametrize(
        "twin_of",
        [
            subtest(copy.deepcopy, "deepcopy"),
            subtest(lambda optimizer: pickle.loads(pickle.dumps(optimizer)), "pickle"),
        ],
    )
    def test_copies(self, twin_of):
        optimizer = optimizer_of(PositionalLoad, "ba", "dc")
        twin = twin_of(optimizer)
        self.assertEqual(names_of(twin), [["b", "a"], ["d", "c"]])
        self.assert_same(twin.state_dict(), optimizer.state_dict())


class TestAnnotatedOrder(OptimTestCase):
    @parametrize("strict", [True, False])
    @parametrize(
        "theirs,ours,warns",
        [
            subtest((["ab", "cd"], ["ab", "cd"], False), "same"),
            subtest((["ab", "cd"], ["ba", "cd"], True), "in_a_group"),
            subtest((["ab", "cd"], ["cd", "ab"], True), "groups"),
            subtest((["abc"], ["xacy"], False), "same_of_shared"),
            subtest((["abc"], ["cxa"], True), "other_of_shared"),
        ],
    )
    def test_one_warning(self, theirs, ours, warns, strict):
        state_dict = optimizer_of(Adam, *theirs).state_dict()
        if strict and set("".join(theirs)) != set("".join(ours)):
            return
        for make in (annotated, dict):
            target = optimizer_of(Adam, *ours)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                target.load_state_dict(make(state_dict), strict)
            texts = [str(warning.message) for warning in caught]
            self.assertEqual(len(texts), int(warns and make is annotated), texts)
            for text in texts:
                self.assertIn("another order", text)
                self.assertIn("by name", text)

    def test_string_ids_are_no_names_for_one_without(self):
        state_dict = optimizer_of(SGD, "ab", momentum=0.9).state_dict()
        del state_dict["param_groups"][0]["param_names"]
        target = drop_names(optimizer_of(SGD, "ab", momentum=0.9))
        target.load_state_dict(state_dict)
        self.assertEqual(names_of(target), [None])
        target.add_param_group({"params": [Parameter(torch.ones(2))]})
        self.assertEqual(list(target.state_dict()["state"]), [0, 1])

    def test_many_groups(self):
        params = [Parameter(torch.ones(1)) for _ in range(1001)]
        optimizer = SGD([{"params": [param]} for param in params])
        state_dict = optimizer.state_dict()
        for index, group in enumerate(state_dict["param_groups"]):
            group["param_names"] = [f"p{index}"]
        optimizer.load_state_dict(state_dict)
        with self.assertRaisesRegex(ValueError, "without names"):
            optimizer.add_param_group({"params": [Parameter(torch.ones(1))]})
        # Nothing else keeps what was in the groups.
        alive = weakref.ref(params[0])
        optimizer.param_groups.clear()
        del params, group
        self.assertIsNone(alive())


class TestLazyParameters(OptimTestCase):
    """Parameters have no shape before the first forward."""

    def _make(self, info, device):
        model = nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 1)).to(device)
        return model, build(info, model.named_parameters())

    def _step(self, model, optimizer, device):
        optimizer.zero_grad()
        model(torch.ones(1, 2, device=device)).sum().backward()
        optimizer.step()

    @optims(
        [info for info in GROUPED if info.name not in NO_LAZY_PARAMETERS],
        dtypes=[torch.float32],
    )
    @parametrize("strict", [True, False])
    def test_load_before_the_first_forward(self, device, dtype, optim_info, strict):
        model, source = self._make(optim_info, device)
        for _ in range(2):
            self._step(model, source, device)
        state_dict = copy.deepcopy(source.state_dict())
        files = state_dict, annotated(state_dict), {"state": state_dict["state"]}
        for file in files:
            model, target = self._make(optim_info, device)
            target.load_state_dict(file, strict)
            self.assert_same(dict(target.named_state()), state_dict["state"])
            self._step(model, target, device)
            # From now on they have.
            model[0].weight.data = torch.ones(3, 5, device=device)
            if target.state[model[0].weight] and optim_info.name != "Adafactor":
                with self.assertRaisesRegex(ValueError, '"0.weight".*size mismatch'):
                    target.load_state_dict(file, strict)


instantiate_device_type_tests(TestLazyParameters, globals(), only_for=DEVICE_TYPES)
instantiate_parametrized_tests(TestPositionalLoads)
instantiate_parametrized_tests(TestAnnotatedOrder)


if __name__ == "__main__":
    run_tests()
