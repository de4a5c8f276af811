# Owner(s): ["module: optimizer"]

"""Loads of a part: which options a group takes, and that a step succeeds."""

import copy
import inspect
import itertools
from typing import Any

from _common import (
    DEVICE_TYPES,
    make_params,
    names_of,
    OptimTestCase,
    ROUNDS_BY_ORDER,
    snapshot,
    train,
)
from _describe import describe

import torch
from torch.nn import Parameter
from torch.optim import AdamW, SGD
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
        for own, has_state in itertools.product(option_sets, (True, False)):
            target = None
            for their, state_dict in zip(option_sets, files):
                about = f"{own}, {their}, {has_state}"
                # One that refused a file is as before, and takes the next.
                if target is None:
                    target, params = _laid_out(optim_info, ours, device, dtype, own, {})
                    if has_state:
                        train(optim_info, target, params, [0])
                    before = snapshot(target)
                refused = None
                try:
                    target.load_state_dict(state_dict, strict=layout == "same")
                except ValueError as error:
                    refused = str(error)
                    self.assert_unchanged(target, before)
                    self.assertRegex(refused, r'"\w+\.weight"', about)
                    self.assertRegex(refused, "|".join([*own, *their]), about)
                else:
                    train(optim_info, target, params, [2])
                    target = None
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


instantiate_device_type_tests(TestStepAfterLoad, globals(), only_for=DEVICE_TYPES)
instantiate_parametrized_tests(TestOptionRule)


if __name__ == "__main__":
    run_tests()
