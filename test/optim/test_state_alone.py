# Owner(s): ["module: optimizer"]

"""State alone is loaded by name, and every option stays as it is."""

import copy

from _common import (
    build,
    DEVICE_TYPES,
    in_groups,
    make_params,
    OptimTestCase,
    ROUNDS_BY_ORDER,
    saved,
    shuffled,
    snapshot,
    state_by_name,
    train,
    trained,
    without_names,
)
from _describe import describe

import torch
from torch.nn import Parameter
from torch.optim import Adam
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import parametrize, run_tests


#: Optimizers that keep the state of each parameter under this parameter.
PER_PARAMETER = [info for info in optim_db if info.name not in ROUNDS_BY_ORDER]


def _adam(names: str, steps: int = 1) -> Adam:
    optimizer = Adam({name: Parameter(torch.ones(2)) for name in names})
    for param in optimizer.param_groups[0]["params"]:
        param.grad = torch.ones(2)
    for _ in range(steps):
        optimizer.step()
    return optimizer


class TestStateAlone(OptimTestCase):
    """A state dict without ``param_groups`` loads state and no options."""

    @optims(PER_PARAMETER, dtypes=[torch.float32])
    @parametrize("strict", [True, False])
    def test_options_stay(self, device, dtype, optim_info, strict):
        source, source_params = trained(optim_info, device, dtype)
        alone = {"state": saved(source)["state"]}
        before_file = describe(alone)
        params = make_params(optim_info, device, dtype, order=shuffled(source_params))
        # Every parameter in a group of its own, other than in the file.
        target = build(
            optim_info,
            [
                {"params": {n: p}, "lr": 0.1 * i}
                for i, (n, p) in enumerate(params.items())
            ],
        )
        train(optim_info, target, params, range(5, 6))
        before = describe(target.param_groups)
        result = target.load_state_dict(alone, strict)
        self.assertEqual(str(result), "<All keys matched successfully>")
        self.assert_still(target.param_groups, before)
        loaded = state_by_name(target, params)
        for name, state in state_by_name(source, source_params).items():
            self.assert_same(loaded[name], state, name)
        self.assertEqual(set(target.state), set(params.values()))
        self.assert_still(alone, before_file)
        train(optim_info, target, params, range(6, 8))

    @optims(PER_PARAMETER, dtypes=[torch.float32])
    def test_what_only_one_side_has(self, device, dtype, optim_info):
        all_params = make_params(optim_info, device, dtype)
        first, *shared, last = all_params
        source, source_params = trained(optim_info, device, dtype)
        alone = {"state": saved(source)["state"]}
        del alone["state"][first]
        params = {name: all_params[name] for name in (first, *shared)}
        target = build(optim_info, in_groups(optim_info, params))
        train(optim_info, target, params, range(5, 6))
        before = snapshot(target)
        with self.assertRaisesRegex(
            ValueError, f'(?s)Missing[^\n]*"{first}".*Unexpected[^\n]*"{last}"'
        ):
            target.load_state_dict(alone)
        self.assert_unchanged(target, before)
        kept = copy.deepcopy(target.state[params[first]])
        result = target.load_state_dict(alone, strict=False)
        self.assertEqual(tuple(result), ([first], [last]))
        self.assert_same(target.state[params[first]], kept)
        self.assertEqual(set(target.state), set(params.values()))
        for name in shared:
            self.assert_same(
                target.state[params[name]], source.state[source_params[name]], name
            )

    @optims(PER_PARAMETER, dtypes=[torch.float32])
    @parametrize("named", [True, False])
    @parametrize("strict", [True, False])
    def test_ids_are_no_names(self, device, dtype, optim_info, named, strict):
        source, params = trained(optim_info, device, dtype)
        groups = in_groups(optim_info, params)
        unnamed = build(optim_info, without_names(groups))
        train(optim_info, unnamed, params, range(2))
        alone = {"state": unnamed.state_dict()["state"]}
        # One without names answers as on any release, whatever the keys are.
        target, error, words = unnamed, KeyError, "'param_groups'"
        if named:
            target, error, words = source, ValueError, "names.* is 0.*whole state_dict"
        before = snapshot(target)
        with self.assertRaisesRegex(error, words):
            target.load_state_dict(alone, strict)
        if not named:
            with self.assertRaisesRegex(error, words):
                target.load_state_dict({"state": source.state_dict()["state"]}, strict)
        self.assert_unchanged(target, before)

    @parametrize("strict", [True, False])
    def test_shapes(self, strict):
        source = _adam("ab")
        alone = {"state": copy.deepcopy(source.state_dict()["state"])}
        alone["state"]["b"]["exp_avg"] = torch.ones(3)
        target = _adam("ab")
        before = snapshot(target)
        with self.assertRaisesRegex(ValueError, r'"b".*"exp_avg".*\(3,\).*\(2,\)'):
            target.load_state_dict(alone, strict)
        self.assert_unchanged(target, before)

    @parametrize("strict", [True, False])
    def test_other_entries_pass(self, strict):
        target = _adam("ab")
        state = copy.deepcopy(target.state_dict()["state"])
        target.load_state_dict({"state": {**state, "calls": 3}}, strict)
        self.assertEqual(target.state["calls"], 3)

    def test_shards_are_merged(self):
        shards = [_adam("ab").state_dict(), _adam("c", 2).state_dict()]
        merged = {k: v for shard in shards for k, v in shard["state"].items()}
        target = _adam("cba", 3)
        target.load_state_dict({"state": merged})
        steps = {name: int(state["step"]) for name, state in target.named_state()}
        self.assertEqual(steps, {"a": 1, "b": 1, "c": 2})

    def test_a_parameter_without_state_is_missing(self):
        target = _adam("ab")
        text = "Without 'param_groups', a parameter without saved state is missing"
        with self.assertRaisesRegex(ValueError, f'(?s)"b".*{text}'):
            target.load_state_dict({"state": _adam("a").state_dict()["state"]})

    def test_a_stray_state_is_unexpected(self):
        state_dict = copy.deepcopy(_adam("abx").state_dict())
        # As a file has it whose groups were cut by hand.
        for key in ("params", "param_names"):
            state_dict["param_groups"][0][key] = ["a", "b"]
        state_dict["state"]["shared"] = {"calls": 3}
        target = _adam("ab", 2)
        before = snapshot(target)
        with self.assertRaisesRegex(ValueError, r'Unexpected[^\n]*: "x"\.'):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)
        result = target.load_state_dict(state_dict, strict=False)
        self.assertEqual(tuple(result), ([], ["x"]))
        self.assertEqual([k for k in target.state if isinstance(k, str)], ["shared"])


instantiate_device_type_tests(TestStateAlone, globals(), only_for=DEVICE_TYPES)


if __name__ == "__main__":
    run_tests()
