# Owner(s): ["module: optimizer"]

"""Loads of a part: which options a group takes, and that a step succeeds."""

import copy
import inspect
import itertools
from typing import Any

import torch
from _common import (
    DEVICE_TYPES,
    ROUNDS_BY_ORDER,
    OptimTestCase,
    build,
    in_groups,
    make_params,
    names_of,
    saved,
    shuffled,
    snapshot,
    state_by_name,
    train,
    trained,
    without_names,
)
from _describe import describe
from torch.nn import Parameter
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


#: Optimizers that keep the state of each parameter under this parameter.
PER_PARAMETER = [info for info in optim_db if info.name not in ROUNDS_BY_ORDER]

#: Options that decide which state a parameter has, or on which device it is.
DECIDING = {
    "Adagrad": {"fused": True},
    "Adam": {"amsgrad": True, "fused": True},
    "AdamW": {"amsgrad": True, "fused": True},
    "RMSprop": {"centered": True, "momentum": 0.9},
}

#: Other options with which a step runs other code.
SWITCHES = [
    {"foreach": True},
    {"fused": True},
    {"maximize": True},
    {"decoupled_weight_decay": True},
    {"momentum": 0.9},
    {"nesterov": True, "momentum": 0.9},
]

#: The parameters in each group, of the file and of the optimizer. "d" is new.
LAYOUTS = {
    "same": (["abc"], ["cab"]),
    "more": (["abc"], ["dab"]),
    "split": (["abc"], ["a", "bd"]),
    "merged": (["a", "bc"], ["bad"]),
    "overlapping": (["ab", "c"], ["a", "bcd"]),
    "state_alone": (["abc"], ["a", "bcd"]),
}

# All of them matrices, which each optimizer takes.
_NAMES = dict(zip("abcd", ("embed.weight", "fc.weight", "conv.weight", "head.weight")))


def _option_sets(info) -> list[dict[str, Any]]:
    """Options with each of which the optimizer takes a step here.

    So without ``capturable``, which needs another device, and without
    ``differentiable``, which needs parameters that are no leaves.
    """
    deciding = DECIDING.get(info.name, {})
    sets = [
        dict(chosen)
        for n in range(len(deciding) + 1)
        for chosen in itertools.combinations(deciding.items(), n)
    ]
    known = inspect.signature(info.optim_cls).parameters.keys() - deciding.keys()
    return sets + [options for options in SWITCHES if options.keys() <= known]


def _laid_out(info, layout, device, dtype, first, others):
    """An optimizer with a group for each string, and its parameters by name."""
    names = [[_NAMES[letter] for letter in letters] for letters in layout]
    params = make_params(info, device, dtype, order=itertools.chain(*names))
    groups = [
        {"params": {name: params[name] for name in group}, **(others if i else first)}
        for i, group in enumerate(names)
    ]
    return info.optim_cls(groups), params


class TestStepAfterLoad(OptimTestCase):
    """A load ends in an error that says why, or in an optimizer that can step."""

    @optims(PER_PARAMETER, dtypes=[torch.float32])
    @parametrize("layout", list(LAYOUTS))
    def test_any_options_on_both_sides(self, device, dtype, optim_info, layout):
        theirs, ours = LAYOUTS[layout]
        deciding = DECIDING.get(optim_info.name, {})
        option_sets = _option_sets(optim_info)
        files = []
        for their in option_sets:
            source, params = _laid_out(optim_info, theirs, device, dtype, their, {})
            train(optim_info, source, params, range(2))
            state_dict = copy.deepcopy(source.state_dict())
            if layout == "state_alone":
                del state_dict["param_groups"]
            files.append(state_dict)
        sides = itertools.product(option_sets, zip(option_sets, files), (True, False))
        for own, (their, state_dict), has_state in sides:
            about = f"{own}, {their}, {has_state}"
            target, params = _laid_out(optim_info, ours, device, dtype, own, {})
            if has_state:
                train(optim_info, target, params, range(2))
            before = snapshot(target)
            refused = None
            try:
                target.load_state_dict(state_dict, strict=layout == "same")
            except ValueError as error:
                refused = str(error)
            if refused is None:
                train(optim_info, target, params, range(2, 4))
            else:
                self.assert_unchanged(target, before)
                self.assertRegex(refused, r'"\w+\.weight"', about)
                self.assertRegex(refused, "|".join([*own, *their]), about)
            if layout == "same":
                self.assertIsNone(refused, about)
            if layout == "more" and has_state:
                # The new one has state of its own, and the options of the file.
                differ = any(own.get(k) != their.get(k) for k in deciding)
                self.assertEqual(refused is not None, differ, about)

    @optims(
        [info for info in optim_db if info.name in DECIDING], dtypes=[torch.float32]
    )
    @parametrize("own", [True, False])
    def test_errors_name_the_values(self, device, dtype, optim_info, own):
        for option, value in DECIDING[optim_info.name].items():
            chosen = ({option: value}, {}) if own else ({}, {option: value})
            (target, params), (source, others) = (
                _laid_out(optim_info, [names], device, dtype, options, {})
                for names, options in zip(("ad", "a"), chosen)
            )
            train(optim_info, target, params, range(2))
            train(optim_info, source, others, range(2))
            with self.assertRaises(ValueError) as caught:
                target.load_state_dict(source.state_dict(), strict=False)
            for optimizer in (target, source):
                shown = f"{option}={optimizer.param_groups[0][option]!r}"
                self.assertIn(shown, str(caught.exception))
            self.assertIn(f'"{option}"', str(caught.exception))
            self.assertIn('"head.weight"', str(caught.exception))


#: What an option may be, made from a number.
KINDS = {
    "number": lambda number: number,
    "tensor": lambda number: torch.tensor([number, 1.0]),
    "nested": lambda number: (number, [torch.tensor(number)]),
}

# Groups as letters and a number: the value of an option; None if they lack it.
RULES = {
    "split_differing": ("ab 1", "a 2|b 3", [2, 3]),
    "split_alike": ("ab 1", "a 2|b 2", [1, 1]),
    "split_one_differs": ("abc 1", "a 2|b 2|c 3", [2, 2, 3]),
    "split_one_is_as_saved": ("ab 1", "a 1|b 3", [1, 3]),
    "merged_alike": ("a 1|b 1", "ab 5", [1]),
    "merged_differing": ("a 1|b 2", "ab 5", [5]),
    "overlapping_alike": ("ab 1|cd 1", "a 5|bc 5|d 5", [1, 1, 1]),
    "overlapping_saved_differ": ("ab 1|cd 2", "a 5|bc 5|d 5", [1, 5, 2]),
    "overlapping_live_differ": ("ab 1|cd 1", "a 4|bc 5|d 5", [4, 5, 1]),
    "a_new_group_does_not_count": ("a 1|x 7", "a 5|n 9", [1, 9]),
    "new_parameters_do_not_count": ("ab 1", "an 5|bm 5", [1, 1]),
    "merged_one_lacks_it": ("a 1|b -", "ab 5", [5]),
    "merged_other_lacks_it": ("a -|b 1", "ab 5", [5]),
    "split_saved_lacks_it": ("ab -", "a 5|b 6", [5, 6]),
    "split_lack_it": ("ab 1", "a -|b -", [1, 1]),
    "split_one_lacks_it": ("ab 1", "a 5|b -", [5, None]),
}


def _rule(rule: str, kind: Any, option: str = "option") -> SGD:
    """SGD with the groups of a rule, which have this option."""
    groups = []
    for part in rule.split("|"):
        names, number = part.split()
        group = {"params": {name: Parameter(torch.ones(2)) for name in names}}
        if number != "-":
            group[option] = kind(float(number))
        groups.append(group)
    return SGD(groups, lr=0.1)


class TestOptionRule(OptimTestCase):
    """An option comes from the file only if nothing on either side disagrees."""

    @parametrize("rule", list(RULES))
    @parametrize("kind", list(KINDS))
    def test_rule(self, rule, kind):
        theirs, ours, expected = RULES[rule]
        make = KINDS[kind]
        state_dict = copy.deepcopy(_rule(theirs, make).state_dict())
        before = describe(state_dict)
        target = _rule(ours, make)
        names = names_of(target)
        target.load_state_dict(state_dict, strict=False)
        self.assert_same(
            [group.get("option") for group in target.param_groups],
            [None if number is None else make(float(number)) for number in expected],
        )
        self.assertEqual(names_of(target), names)
        self.assert_still(state_dict, before)

    def test_rates_and_decay_of_parts(self):
        source = AdamW({"w": Parameter(torch.ones(2)), "b": Parameter(torch.ones(2))})
        target = AdamW(
            [
                {"params": {"w": Parameter(torch.ones(2))}, "lr": 1e-5},
                {
                    "params": {"b": Parameter(torch.ones(2))},
                    "weight_decay": 0.0,
                    "lr": 1e-4,
                },
            ],
            eps=1e-4,
        )
        target.load_state_dict(source.state_dict(), strict=False)
        first, second = target.param_groups
        self.assertEqual((first["lr"], second["lr"]), (1e-5, 1e-4))
        self.assertEqual((first["weight_decay"], second["weight_decay"]), (0.01, 0.0))
        self.assertEqual((first["eps"], second["eps"]), (1e-8, 1e-8))

    @parametrize(
        "theirs,ours,expected",
        [
            # At the start of a warm-up the rates are alike, and will not be.
            subtest((("ab 3", 0.5), ("a 1|b 2", 0.0), [(0, 1), (0, 2)]), "split"),
            subtest((("a 1|b 2", 0.0), ("ab 3", 0.5), [(1.5, 3)]), "merged"),
            subtest((("ab 3", 0.5), ("a 1|b 1", 0.0), [(1.5, 3)] * 2), "alike"),
            # Only the file is of a run with a schedule.
            subtest(
                (("ab 3", 0.5), ("a 1|b 2", None), [(1, None), (2, None)]), "no_split"
            ),
            subtest((("ab 3", 0.5), ("a 1|b 1", None), [(1.5, 3)] * 2), "no_alike"),
        ],
    )
    def test_initial_lr_goes_with_lr(self, theirs, ours, expected):
        def scheduled(rule, factor):
            optimizer = _rule(rule, float, "lr")
            if factor is not None:
                LambdaLR(optimizer, lambda epoch: factor)
            return optimizer

        target = scheduled(*ours)
        target.load_state_dict(scheduled(*theirs).state_dict(), strict=False)
        rates = [(g["lr"], g.get("initial_lr")) for g in target.param_groups]
        self.assertEqual(rates, expected)


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


def _adam(names: str, steps: int = 1) -> Adam:
    optimizer = Adam({name: Parameter(torch.ones(2)) for name in names})
    for param in optimizer.param_groups[0]["params"]:
        param.grad = torch.ones(2)
    for _ in range(steps):
        optimizer.step()
    return optimizer


for case in (TestStepAfterLoad, TestStateAlone):
    instantiate_device_type_tests(case, globals(), only_for=DEVICE_TYPES)
del case
instantiate_parametrized_tests(TestOptionRule)


if __name__ == "__main__":
    run_tests()
