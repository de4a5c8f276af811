# Owner(s): ["module: optimizer"]

"""Names decide: loading state dicts by name, or else by position."""

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _common import (
    all_inputs,
    annotated,
    build,
    DEVICE_TYPES,
    GROUPED,
    in_groups,
    indexed,
    make_params,
    MATRICES_ONLY,
    names_of,
    OptimTestCase,
    options_by_name,
    params_for,
    renamed,
    ROUNDS_BY_ORDER,
    saved,
    set_values,
    shuffled,
    snapshot,
    state_by_name,
    swapped,
    train,
    trained,
    values,
    without_names,
)
from _describe import describe

import torch
from torch.nn import Parameter
from torch.optim import Adagrad, Adam, LBFGS, SGD
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import optim_db, optims
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


#: The kinds of files, made from what a named optimizer returns.
FILES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "indexed": indexed,
    "annotated": annotated,
    "named": lambda state_dict: state_dict,
}

#: Optimizers that keep the state of each parameter under this parameter.
PER_PARAMETER = [info for info in optim_db if info.name not in ROUNDS_BY_ORDER]


def _names(optimizer) -> list[str]:
    return [name for names in names_of(optimizer) for name in names]


@contextmanager
def _no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _with_param_names(state_dict, names):
    """The state dict with other ``param_names``; none for None."""
    for group in state_dict["param_groups"]:
        group["param_names"] = names(group["param_names"])
        if group["param_names"] is None:
            del group["param_names"]
    return state_dict


@contextmanager
def _order_warning(expected: bool) -> Iterator[None]:
    """One warning that names are in another order, or none."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    texts = [str(warning.message) for warning in caught]
    if len(texts) != expected or not all("in another order" in t for t in texts):
        raise AssertionError(texts)


def _drop_names(group):
    del group["param_names"]


def _shorten(group):
    group["param_names"] = group["param_names"][:-1]


def _lengthen(group):
    group["param_names"] = [*group["param_names"], "x"]


def _number(group):
    group["param_names"] = [0, *group["param_names"][1:]]


def _repeat(group):
    group["param_names"] = [group["param_names"][1], *group["param_names"][1:]]


def _one_string(group):
    group["param_names"] = "x" * len(group["params"])


def _none(group):
    group["param_names"] = None


#: What makes the names of an annotated file unusable, and what the warning says.
DAMAGES = {
    "too_few": (_shorten, "param group {}.*names for"),
    "too_many": (_lengthen, "param group {}.*names for"),
    "not_a_str": (_number, "param group {}.*type int"),
    "twice": (_repeat, "more than one parameter"),
    "one_string": (_one_string, "param group {}.*list"),
    "none": (_none, "param group {}.*NoneType"),
}


class TestMatchingTable(OptimTestCase):
    """Each row of the table: what is matched by what, and the names afterwards."""

    def _check_by_position(self, target, target_params, source, source_params):
        theirs = state_by_name(source, source_params)
        names = [n for names in names_of(source) for n in names]
        by_position = dict(
            zip(
                (p for group in target.param_groups for p in group["params"]),
                names,
                strict=True,
            )
        )
        for name, param in target_params.items():
            self.assert_same(
                target.state.get(param, {}), theirs.get(by_position[param], {}), name
            )

    def _check_options(self, target, target_params, source, source_params):
        ours = options_by_name(target, target_params)
        theirs = options_by_name(source, source_params)
        self.assertEqual(set(ours), set(theirs))
        for name in ours:
            self.assert_same(ours[name], theirs[name], name)

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("file", FILES)
    @parametrize("named", [True, False])
    def test_row(self, device, dtype, optim_info, file, named):
        source, source_params = trained(optim_info, device, dtype)
        state_dict = FILES[file](saved(source))
        before = describe(state_dict)

        order = swapped(source_params)
        params = make_params(optim_info, device, dtype, order=order)
        groups = in_groups(optim_info, params)
        for group in groups:
            group["lr"] = 0.7
        own_params = [list(group["params"].values()) for group in groups]
        target = build(optim_info, groups if named else without_names(groups))
        own_names = names_of(target)
        with _order_warning(named and file == "annotated"):
            result = target.load_state_dict(state_dict)

        self.assertEqual(tuple(result), ([], []))
        by_position = not named or file == "indexed"
        self.assertEqual(repr(result) == "<Loaded by position>", by_position)
        self.assert_still(state_dict, before)
        self._check_options(target, params, source, source_params)
        if not named:
            adopted = [None] * len(own_names)
            if file != "indexed":
                adopted = names_of(source)
            self.assertEqual(names_of(target), adopted)
        else:
            self.assertEqual(names_of(target), own_names)
        for group, own in zip(target.param_groups, own_params, strict=True):
            self.assertEqual(list(map(id, group["params"])), list(map(id, own)))
        if not named or file == "indexed":
            self._check_by_position(target, params, source, source_params)
        elif optim_info.name not in ROUNDS_BY_ORDER:
            self.assert_same(
                state_by_name(target, dict(sorted(params.items()))),
                state_by_name(source, dict(sorted(source_params.items()))),
            )

    @optims(optim_db, dtypes=[torch.float32])
    def test_an_unnamed_one_that_takes_names_has_them(self, device, dtype, optim_info):
        source, _ = trained(optim_info, device, dtype)
        params = make_params(optim_info, device, dtype)
        target = build(optim_info, without_names(in_groups(optim_info, params)))
        target.load_state_dict(saved(source))
        self.assert_same(target.state_dict(), source.state_dict())
        # Now it is matched by name.
        order = shuffled(params)
        other_params = make_params(optim_info, device, dtype, order=order)
        other = build(optim_info, in_groups(optim_info, other_params)[::-1])
        target.load_state_dict(other.state_dict())
        self.assertEqual(names_of(target), names_of(source))

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("damage", DAMAGES)
    @parametrize("named", [True, False])
    def test_unusable_annotations(self, device, dtype, optim_info, damage, named):
        source, source_params = trained(optim_info, device, dtype)
        state_dict = annotated(saved(source))
        damage_group, regex = DAMAGES[damage]
        index = len(state_dict["param_groups"]) - 1
        damage_group(state_dict["param_groups"][index])
        before = describe(state_dict)
        params = make_params(optim_info, device, dtype, order=swapped(source_params))
        groups = in_groups(optim_info, params)
        target = build(optim_info, groups if named else without_names(groups))
        own_names = names_of(target)
        where = "position" if named else "stays without names"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            target.load_state_dict(state_dict)
        (warning,) = caught
        self.assertIs(warning.category, UserWarning)
        self.assertRegex(
            str(warning.message), f"cannot be used.*{regex.format(index)}.*{where}"
        )
        # It points to the call, not into torch.
        self.assertEqual(warning.filename, __file__)
        self._check_by_position(target, params, source, source_params)
        self._check_options(target, params, source, source_params)
        self.assertEqual(names_of(target), own_names)
        self.assert_still(state_dict, before)

    @optims(GROUPED, dtypes=[torch.float32])
    @parametrize("named", [True, False])
    @parametrize("missing_in", [0, 1])
    def test_annotations_of_some_groups(
        self, device, dtype, optim_info, named, missing_in
    ):
        source, source_params = trained(optim_info, device, dtype)
        state_dict = annotated(saved(source))
        _drop_names(state_dict["param_groups"][missing_in])
        params = make_params(optim_info, device, dtype, order=swapped(source_params))
        groups = in_groups(optim_info, params)
        target = build(optim_info, groups if named else without_names(groups))
        own_names = names_of(target)
        with self.assertWarnsRegex(UserWarning, f"param group {missing_in}.*has none"):
            target.load_state_dict(state_dict)
        self._check_by_position(target, params, source, source_params)
        self.assertEqual(names_of(target), own_names)

    @optims(optim_db, dtypes=[torch.float32])
    def test_an_unusable_named_file_for_an_unnamed_one(self, device, dtype, optim_info):
        # One name for two parameters: fine for positions, but no names to take.
        source, _ = trained(optim_info, device, dtype)
        state_dict = annotated(saved(source))
        first = _names(source)[0]
        params = make_params(optim_info, device, dtype)
        target = build(optim_info, without_names(in_groups(optim_info, params)))
        state_dict["state"][first] = "an entry of its own"
        with self.assertWarnsRegex(UserWarning, f'"{first}".*stays without names'):
            target.load_state_dict(state_dict)
        self.assertEqual(target.state[first], "an entry of its own")
        self.assertEqual(names_of(target), [None] * len(state_dict["param_groups"]))
        target.state_dict()

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize(
        "names",
        [
            subtest(lambda own: None, "absent"),
            subtest(lambda own: own[::-1], "reversed"),
            subtest(lambda own: own[1:], "short"),
            subtest(lambda own: list(range(len(own))), "ints"),
        ],
    )
    def test_params_of_a_named_file_decide(self, device, dtype, optim_info, names):
        source, source_params = trained(optim_info, device, dtype)
        state_dict = _with_param_names(saved(source), names)
        params = make_params(optim_info, device, dtype)
        target = build(optim_info, in_groups(optim_info, params))
        with _no_warning():
            target.load_state_dict(state_dict)
        self.assert_same(
            state_by_name(target, params), state_by_name(source, source_params)
        )
        self.assertEqual(names_of(target), names_of(source))

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize(
        "names,adopted",
        [
            subtest((lambda own: None, False), "absent"),
            subtest((lambda own: own[::-1], True), "reversed"),
            subtest((lambda own: own[1:], False), "short"),
            subtest((lambda own: list(range(len(own))), False), "ints"),
        ],
    )
    def test_only_param_names_are_adopted(
        self, device, dtype, optim_info, names, adopted
    ):
        source, source_params = trained(optim_info, device, dtype)
        state_dict = _with_param_names(saved(source), names)
        params = make_params(optim_info, device, dtype)
        target = build(optim_info, without_names(in_groups(optim_info, params)))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            target.load_state_dict(state_dict)
        unusable = not adopted and "param_names" in state_dict["param_groups"][0]
        self.assertEqual(len(caught), unusable)
        self.assert_same(
            state_by_name(target, params), state_by_name(source, source_params)
        )
        expected = [g.get("param_names") for g in state_dict["param_groups"]]
        self.assertEqual(
            names_of(target), expected if adopted else [None] * len(expected)
        )
        # As its names say, a group without names can be added, or one with names.
        group = [] if optim_info.name in MATRICES_ONLY else [Parameter(torch.ones(2))]
        if optim_info.supports_param_groups and not adopted and group:
            target.add_param_group({"params": group})

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("prefix", ["module.", "_orig_mod.", "x"])
    @parametrize("wrapped", ["file", "optimizer"])
    def test_no_annotation_is_known(self, device, dtype, optim_info, prefix, wrapped):
        source, source_params = trained(optim_info, device, dtype)
        state_dict = saved(source)
        names = {name: prefix + name for name in source_params}
        params = make_params(optim_info, device, dtype)
        groups = in_groups(optim_info, params)
        if wrapped == "file":
            state_dict = renamed(state_dict, names)
        else:
            for group in groups:
                group["params"] = {names[n]: p for n, p in group["params"].items()}
        target = build(optim_info, groups)
        own_names = names_of(target)
        before = snapshot(target)

        # In a named file, these are names of other parameters.
        expected = r"(?s)Missing key\(s\).*Unexpected key\(s\)"
        if prefix != "x":
            place = "state_dict" if wrapped == "file" else "optimizer"
            expected += f'.*in the {place} have "{prefix}"'
        with self.assertRaisesRegex(ValueError, expected):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)

        hint = f'have "{prefix}".*' if prefix != "x" else ""
        with self.assertWarnsRegex(
            UserWarning, f"None of the param_names.*{hint}position"
        ):
            target.load_state_dict(annotated(state_dict))
        self._check_by_position(target, params, source, source_params)
        self._check_options(target, params, source, source_params)
        self.assertEqual(names_of(target), own_names)

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("file", ["annotated", "named"])
    @parametrize("strict", [True, False])
    def test_some_names_are_known(self, device, dtype, optim_info, file, strict):
        source, source_params = trained(optim_info, device, dtype)
        first, second, *_ = source_params
        state_dict = renamed(FILES["named"](saved(source)), {first: "other"})
        state_dict = FILES[file](state_dict)
        before_file = describe(state_dict)
        params = make_params(optim_info, device, dtype)
        target = build(optim_info, in_groups(optim_info, params))
        train(optim_info, target, params, range(5, 6))
        before = snapshot(target)
        own = copy.deepcopy(state_by_name(target, params))
        if strict or optim_info.name in ROUNDS_BY_ORDER:
            regex = (
                f'(?s)Error.* {optim_info.name}:.*Missing.*: "{first}"'
                '.*Unexpected.*: "other"'
                if strict
                else "same parameters"
            )
            with self.assertRaisesRegex(ValueError, regex):
                target.load_state_dict(state_dict, strict)
            self.assert_unchanged(target, before)
        else:
            result = target.load_state_dict(state_dict, strict)
            self.assertEqual(tuple(result), ([first], ["other"]))
            loaded = state_by_name(target, params)
            self.assert_same(loaded[first], own[first])
            self.assert_same(loaded[second], source.state[source_params[second]])
            self.assertNotIn("other", target.state)
        self.assert_still(state_dict, before_file)


class TestShuffledLoad(OptimTestCase):
    @optims(optim_db, dtypes=[torch.float32])
    def test_continues_as_if_never_stopped(self, device, dtype, optim_info):
        for optim_input in all_inputs(optim_info, device, dtype):
            source, source_params = trained(optim_info, device, dtype, optim_input)
            state_dict, at_save = saved(source), values(source_params)
            train(optim_info, source, source_params, range(2, 5))
            for file, order in itertools.product(
                ("annotated", "named"), ("shuffled", "groups_reversed", "same")
            ):
                with self.subTest(f"{optim_input.desc}, {file}, {order}"):
                    names = list(source_params)
                    params = params_for(
                        optim_info,
                        optim_input,
                        device,
                        dtype,
                        names if order == "same" else shuffled(names),
                    )
                    set_values(params, at_save)
                    groups = in_groups(optim_info, params)
                    if order == "groups_reversed":
                        groups.reverse()
                    for group in groups:
                        group["lr"] = 0.6
                    target = build(optim_info, groups, optim_input)
                    own_names = names_of(target)
                    with _order_warning(file == "annotated" and order != "same"):
                        # A copy, since the steps would change it.
                        target.load_state_dict(copy.deepcopy(FILES[file](state_dict)))
                    self.assertEqual(names_of(target), own_names)
                    train(optim_info, target, params, range(2, 5))
                    self._check(
                        optim_info, target, params, source, source_params, order
                    )

    def _check(self, optim_info, target, params, source, source_params, order):
        ours = dict(sorted(values(params).items()))
        theirs = dict(sorted(values(source_params).items()))
        if order != "same" and optim_info.name in ROUNDS_BY_ORDER:
            self.assertEqual(ours, theirs, rtol=1e-4, atol=1e-5)
            return
        self.assert_same(ours, theirs)
        self.assert_same(
            state_by_name(target, {name: params[name] for name in ours}),
            state_by_name(source, {name: source_params[name] for name in ours}),
        )
        options = options_by_name(target, params)
        for name, expected in options_by_name(source, source_params).items():
            self.assert_same(options[name], expected)

    @optims(PER_PARAMETER, dtypes=[torch.float32])
    def test_into_an_optimizer_with_state(self, device, dtype, optim_info):
        source, source_params = trained(optim_info, device, dtype, steps=3)
        order = shuffled(source_params)
        params = make_params(optim_info, device, dtype, order=order)
        target = build(optim_info, in_groups(optim_info, params))
        train(optim_info, target, params, range(7, 9))
        target.load_state_dict(saved(source))
        names = sorted(params)
        self.assert_same(
            state_by_name(target, {name: params[name] for name in names}),
            state_by_name(source, {name: source_params[name] for name in names}),
        )

    @optims(optim_db, dtypes=[torch.float32])
    def test_its_own_state_dict(self, device, dtype, optim_info):
        for optim_input in all_inputs(optim_info, device, dtype):
            with self.subTest(optim_input.desc):
                optimizer, _ = trained(optim_info, device, dtype, optim_input)
                before = describe(optimizer.state_dict())
                for _ in range(2):
                    with _no_warning():
                        result = optimizer.load_state_dict(optimizer.state_dict())
                    self.assertEqual(tuple(result), ([], []))
                    self.assert_still(optimizer.state_dict(), before)

    @optims(optim_db, dtypes=[torch.float32])
    def test_arguments_and_result(self, device, dtype, optim_info):
        optimizer, _ = trained(optim_info, device, dtype)
        state_dict = saved(optimizer)
        for result in (
            optimizer.load_state_dict(state_dict=state_dict),
            optimizer.load_state_dict(state_dict, True),
            optimizer.load_state_dict(state_dict, strict=False),
        ):
            self.assertEqual(result.missing_keys, [])
            self.assertEqual(result.unexpected_keys, [])
            self.assertEqual(repr(result), "<All keys matched successfully>")


def _parameters(state_dict):
    return [name for group in state_dict["param_groups"] for name in group["params"]]


def _without(state_dict, name):
    """The same state dict without one parameter."""
    state_dict = copy.deepcopy(state_dict)
    state_dict["state"].pop(name, None)
    for group in state_dict["param_groups"]:
        if name in group["params"]:
            group["params"].remove(name)
            group["param_names"].remove(name)
    return state_dict


def _damaged(state_dict: dict[str, Any]) -> dict[str, tuple[Any, Any, str]]:
    """State dicts that a named optimizer cannot load, with their errors."""
    group = state_dict["param_groups"][-1]
    others = state_dict["param_groups"][:-1]
    first = group["params"][0]

    def with_group(**changed):
        return {**state_dict, "param_groups": [*others, {**group, **changed}]}

    def without(*keys):
        return {k: v for k, v in state_dict.items() if k not in keys}

    index = len(others)
    return {
        "no groups": (
            {"model": {}, "optimizer": state_dict},
            KeyError,
            r"param_groups.*state_dict\['optimizer'\]",
        ),
        "no state": (without("state"), KeyError, "state"),
        "groups are None": (
            {**state_dict, "param_groups": None},
            TypeError,
            "param_groups",
        ),
        "a group is a list": (
            {**state_dict, "param_groups": [*others, ["lr"]]},
            TypeError,
            f"group {index}",
        ),
        "a group without params": (
            {
                **state_dict,
                "param_groups": [
                    *others,
                    {k: v for k, v in group.items() if k != "params"},
                ],
            },
            KeyError,
            f"group {index}",
        ),
        "params are a number": (with_group(params=3), TypeError, f"group {index}"),
        "params are a string": (with_group(params="ab"), TypeError, f"group {index}"),
        "a list among the ids": (
            with_group(params=[[first], *group["params"][1:]]),
            TypeError,
            f"group {index}",
        ),
        "a tensor among the ids": (
            with_group(params=[torch.ones(1), *group["params"][1:]]),
            TypeError,
            f"group {index}",
        ),
        "names and indices": (
            with_group(params=[0, *group["params"][1:]]),
            ValueError,
            "mix",
        ),
        "state is a list": ({**state_dict, "state": []}, TypeError, "'state'"),
        "a parameter less": (
            _without(state_dict, first),
            ValueError,
            f'Missing.*"{first}"',
        ),
        "a parameter more": (
            with_group(params=[*group["params"], "more"]),
            ValueError,
            'Unexpected.*"more"',
        ),
        "another name": (
            renamed(state_dict, {first: "another"}),
            ValueError,
            f'(?s)Missing.*"{first}".*Unexpected.*"another"',
        ),
        "one group more": (
            {
                **state_dict,
                "param_groups": [*state_dict["param_groups"], {**group, "params": []}],
            },
            ValueError,
            f"Groups differ.*has {index + 1} .*state_dict {index + 2}",
        ),
        "no group": (
            {**state_dict, "param_groups": []},
            ValueError,
            "loaded state dict has a different number|Missing",
        ),
        "indexed, a parameter less": (
            indexed(_without(state_dict, first)),
            ValueError,
            "size of optimizer's group",
        ),
        "indexed, a group less": (
            {
                **indexed(state_dict),
                "param_groups": indexed(state_dict)["param_groups"][:-1],
            },
            ValueError,
            "different number of parameter groups",
        ),
        "an entry under a parameter's name": (
            {
                **indexed(state_dict),
                "state": {**indexed(state_dict)["state"], first: "x"},
            },
            ValueError,
            f'"{first}", which is also the name',
        ),
    }


class TestFailedLoad(OptimTestCase):
    def _target(self, optim_info, device, dtype):
        params = make_params(optim_info, device, dtype)
        target = build(optim_info, in_groups(optim_info, params))
        train(optim_info, target, params, range(4, 6))
        return target

    @optims(optim_db, dtypes=[torch.float32])
    def test_bad_files(self, device, dtype, optim_info):
        source, _ = trained(optim_info, device, dtype)
        target = self._target(optim_info, device, dtype)
        target.register_step_pre_hook(lambda *args: None)
        for desc, (state_dict, kind, regex) in _damaged(saved(source)).items():
            with self.subTest(desc):
                before, before_file = snapshot(target), describe(state_dict)
                with self.assertRaisesRegex(kind, regex):
                    target.load_state_dict(state_dict)
                self.assert_unchanged(target, before)
                self.assert_still(state_dict, before_file)

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("file", FILES)
    @parametrize("named", [True, False])
    def test_state_of_another_shape(self, device, dtype, optim_info, file, named):
        declared = optim_info.optim_cls._state_entries.param_shaped
        if not declared:
            self.assertIn(optim_info.name, ROUNDS_BY_ORDER)
            return
        source, _ = trained(optim_info, device, dtype)
        state_dict = saved(source)
        group = state_dict["param_groups"][-1]
        name = group["params"][-1]
        entries = [key for key in declared if key in state_dict["state"][name]]
        self.assertTrue(entries)
        for key in entries:
            state_dict["state"][name][key] = torch.ones(5, 6, 7, device=device)
        state_dict = FILES[file](state_dict)
        params = make_params(optim_info, device, dtype)
        groups = in_groups(optim_info, params)
        target = build(optim_info, groups if named else without_names(groups))
        before = snapshot(target)
        if not named:
            # As ever, it is not looked at.
            target.load_state_dict(state_dict)
            return
        for strict in (True, False):
            with self.assertRaisesRegex(ValueError, "size mismatch") as caught:
                target.load_state_dict(state_dict, strict)
            for part in (name, *entries, (5, 6, 7), tuple(params[name].shape)):
                self.assertIn(str(part), str(caught.exception))
            self.assert_unchanged(target, before)

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("file", FILES)
    @parametrize("strict", [True, False])
    def test_a_failing_setstate(self, device, dtype, optim_info, file, strict):
        class Failing(optim_info.optim_cls):
            fail = False
            calls = 0

            def __setstate__(self, state):
                super().__setstate__(state)
                for group in self.param_groups:
                    group["new option"] = 1
                self.extra = 1
                Failing.calls += 1
                if Failing.fail:
                    raise RuntimeError("cannot set state")

        source, _ = trained(optim_info, device, dtype)
        state_dict = FILES[file](saved(source))
        params = make_params(optim_info, device, dtype)
        target = Failing(in_groups(optim_info, params))
        train(optim_info, target, params, range(1))
        before = snapshot(target)
        Failing.fail = True
        Failing.calls = 0
        with self.assertRaisesRegex(RuntimeError, "^cannot set state$"):
            target.load_state_dict(state_dict, strict)
        self.assertEqual(Failing.calls, 1)
        self.assert_unchanged(target, before)
        Failing.fail = False
        target.load_state_dict(state_dict, strict)
        self.assertEqual(target.extra, 1)

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("when", ["pre", "post"])
    @parametrize("named", [True, False])
    def test_a_failing_hook(self, device, dtype, optim_info, when, named):
        source, _ = trained(optim_info, device, dtype)
        state_dict = saved(source)
        params = make_params(optim_info, device, dtype)
        groups = in_groups(optim_info, params)
        target = build(optim_info, groups if named else without_names(groups))
        train(optim_info, target, params, range(1))

        def fail(optimizer, *_):
            if when == "post":
                # What was loaded is there, for the hook to change.
                optimizer.state.clear()
                optimizer.param_groups[0]["lr"] = 99.0
                optimizer.mark = 1
            raise KeyboardInterrupt

        getattr(target, f"register_load_state_dict_{when}_hook")(fail)
        before = snapshot(target)
        with self.assertRaises(KeyboardInterrupt):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)

    @optims(optim_db, dtypes=[torch.float32])
    def test_a_file_of_another_optimizer(self, device, dtype, optim_info):
        target = self._target(optim_info, device, dtype)
        before = snapshot(target)
        state_dict = SGD({"a": Parameter(torch.ones(2))}, lr=0.1).state_dict()
        with self.assertRaisesRegex(ValueError, f"state_dict for {optim_info.name}:"):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)


class TestLoadHooks(OptimTestCase):
    @optims(optim_db, dtypes=[torch.float32])
    def test_order_and_arguments(self, device, dtype, optim_info):
        optimizer, _ = trained(optim_info, device, dtype)
        state_dict = saved(optimizer)
        keys = set(state_dict)
        calls = []

        def pre(number):
            def hook(*args):
                opt, given = args
                self.assertIs(opt, optimizer)
                # A shallow copy of what the caller passed.
                self.assertIsNot(given, state_dict)
                self.assertIs(given["state"], state_dict["state"])
                self.assertIs(given["param_groups"], state_dict["param_groups"])
                given[f"mark{number}"] = number
                calls.append(f"pre{number}")

            return hook

        def post(number):
            def hook(*args):
                self.assertEqual(args, (optimizer,))
                calls.append(f"post{number}")

            return hook

        optimizer.register_load_state_dict_post_hook(post(1))
        optimizer.register_load_state_dict_pre_hook(pre(1))
        handle = optimizer.register_load_state_dict_pre_hook(pre(2))
        optimizer.register_load_state_dict_post_hook(post(2))
        optimizer.register_load_state_dict_post_hook(post(3), prepend=True)
        optimizer.register_load_state_dict_pre_hook(pre(3), prepend=True)
        optimizer.load_state_dict(state_dict)
        self.assertEqual(calls, ["pre3", "pre1", "pre2", "post3", "post1", "post2"])
        self.assertEqual(set(state_dict), keys)
        handle.remove()
        optimizer.load_state_dict(state_dict)
        self.assertEqual(calls[6:], ["pre3", "pre1", "post3", "post1", "post2"])

    @optims(optim_db, dtypes=[torch.float32])
    def test_a_pre_hook_may_return_another_dict(self, device, dtype, optim_info):
        source, source_params = trained(optim_info, device, dtype)
        state_dict = renamed(saved(source), {n: f"module.{n}" for n in source_params})
        # Another order changes the flat history of LBFGS.
        order = swapped(source_params) if optim_info in PER_PARAMETER else None
        params = make_params(optim_info, device, dtype, order=order)
        target = build(optim_info, in_groups(optim_info, params))

        def strip(optimizer, given):
            names = {f"module.{name}": name for name in source_params}
            return renamed(given, names)

        target.register_load_state_dict_pre_hook(strip)
        with _no_warning():
            target.load_state_dict(state_dict)
        self.assert_same(
            state_by_name(target, {name: params[name] for name in source_params}),
            state_by_name(source, source_params),
        )

    @optims(PER_PARAMETER, dtypes=[torch.float32])
    @parametrize("file", ["annotated", "named"])
    @parametrize("target_kind", ["named", "taken_from_a_file"])
    def test_adapting_by_param_names(
        self, device, dtype, optim_info, file, target_kind
    ):
        # What the docs tell users of 2.6 and later to do: fill the optimizer's own
        # dict with entries looked up by param_names, and take ids for opaque.
        source, source_params = trained(optim_info, device, dtype)
        state_dict = FILES[file](
            renamed(saved(source), {n: f"old.{n}" for n in source_params})
        )
        params = make_params(optim_info, device, dtype, order=swapped(source_params))
        groups = in_groups(optim_info, params)
        if target_kind == "named":
            target = build(optim_info, groups)
        else:
            target = build(optim_info, without_names(groups))
            target.load_state_dict(annotated(build(optim_info, groups).state_dict()))

        def adapt(optimizer, given):
            adapted = copy.deepcopy(optimizer.state_dict())
            found = {
                name: given["state"][param_id]
                for group in given["param_groups"]
                for param_id, name in zip(group["params"], group["param_names"])
                if param_id in given["state"]
            }
            for mine, theirs in zip(adapted["param_groups"], given["param_groups"]):
                for key in theirs.keys() - {"params", "param_names"}:
                    mine[key] = theirs[key]
                for param_id, name in zip(mine["params"], mine["param_names"]):
                    if f"old.{name}" in found:
                        adapted["state"][param_id] = copy.deepcopy(found[f"old.{name}"])
            return adapted

        target.register_load_state_dict_pre_hook(adapt)
        with _no_warning():
            target.load_state_dict(state_dict)
        names = sorted(params)
        self.assert_same(
            state_by_name(target, {name: params[name] for name in names}),
            state_by_name(source, {name: source_params[name] for name in names}),
        )
        options = options_by_name(target, params)
        for name, expected in options_by_name(source, source_params).items():
            self.assert_same(options[name], expected)


class TestPartialLoad(OptimTestCase):
    @optims(PER_PARAMETER, dtypes=[torch.float32])
    @parametrize("file", ["annotated", "named"])
    def test_shared_parameters_are_loaded(self, device, dtype, optim_info, file):
        params = make_params(optim_info, device, dtype)
        first, *shared, last = params
        in_file = {name: params[name] for name in (*shared, last)}
        source = build(optim_info, in_groups(optim_info, in_file))
        train(optim_info, source, in_file, range(3))
        state_dict = FILES[file](saved(source))
        before_file = describe(state_dict)

        own = make_params(optim_info, device, dtype, order=shuffled([first, *shared]))
        target = build(optim_info, in_groups(optim_info, own))
        train(optim_info, target, own, range(5, 7))
        own_names = names_of(target)
        kept = copy.deepcopy(state_by_name(target, own))
        common = [name for name in _names(target) if name in in_file]
        there = [name for name in _names(source) if name in own]
        with _order_warning(file == "annotated" and common != there):
            result = target.load_state_dict(state_dict, strict=False)
        self.assertEqual(result.missing_keys, [first])
        self.assertEqual(result.unexpected_keys, [last])
        loaded = state_by_name(target, own)
        self.assert_same(loaded[first], kept[first])
        for name in shared:
            self.assert_same(loaded[name], source.state[params[name]], name)
        self.assertEqual(set(target.state), set(own.values()))
        self.assertEqual(names_of(target), own_names)
        self.assert_still(state_dict, before_file)
        train(optim_info, target, own, range(7, 9))

    @optims(PER_PARAMETER, dtypes=[torch.float32])
    def test_a_parameter_without_a_saved_entry(self, device, dtype, optim_info):
        source, source_params = trained(optim_info, device, dtype)
        state_dict = saved(source)
        name = next(iter(source_params))
        del state_dict["state"][name]
        for strict in (True, False):
            params = make_params(optim_info, device, dtype)
            target = build(optim_info, in_groups(optim_info, params))
            train(optim_info, target, params, range(5, 6))
            kept = copy.deepcopy(target.state[params[name]])
            result = target.load_state_dict(state_dict, strict)
            self.assertEqual(tuple(result), ([], []))
            if strict:
                # All state is replaced, as ever.
                self.assertNotIn(params[name], target.state)
            else:
                self.assert_same(target.state[params[name]], kept)

    @optims(PER_PARAMETER, dtypes=[torch.float32])
    def test_nothing_shared(self, device, dtype, optim_info):
        source, source_params = trained(optim_info, device, dtype)
        names = {name: f"other.{name}" for name in source_params}
        for make in (FILES["named"], annotated):
            state_dict = make(renamed(saved(source), names))
            params = make_params(optim_info, device, dtype)
            target = build(optim_info, in_groups(optim_info, params))
            train(optim_info, target, params, range(5, 6))
            before = describe(target.state_dict())
            with _no_warning():
                result = target.load_state_dict(state_dict, strict=False)
            self.assertEqual(set(result.missing_keys), set(names))
            self.assertEqual(set(result.unexpected_keys), set(names.values()))
            self.assert_still(target.state_dict(), before)

    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("named", [True, False])
    def test_without_names_on_both_sides(self, device, dtype, optim_info, named):
        source, source_params = trained(optim_info, device, dtype)
        params = make_params(optim_info, device, dtype)
        groups = in_groups(optim_info, params)
        target = build(optim_info, groups if named else without_names(groups))
        result = target.load_state_dict(indexed(saved(source)), strict=False)
        self.assertEqual(tuple(result), ([], []))
        self.assert_same(
            state_by_name(target, params), state_by_name(source, source_params)
        )
        before = snapshot(target)
        short = indexed(_without(saved(source), next(iter(params))))
        with self.assertRaisesRegex(ValueError, "size of.*needs parameter names"):
            target.load_state_dict(short, strict=False)
        short["param_groups"].pop()
        with self.assertRaisesRegex(ValueError, "number of.*needs parameter names"):
            target.load_state_dict(short, strict=False)
        self.assert_unchanged(target, before)

    @optims(GROUPED, dtypes=[torch.float32])
    def test_options_on_which_groups_agree(self, device, dtype, optim_info):
        params = make_params(optim_info, device, dtype)
        a, b, c, d, *_ = params

        def groups(*named_options):
            return [
                {"params": {name: params[name] for name in names}, **options}
                for names, options in named_options
            ]

        source = build(
            optim_info,
            groups(
                ([a, b], {"lr": 0.1, "x": 1, "y": [1, 2], "z": torch.ones(2)}),
                ([c], {"lr": 0.2, "x": 1, "y": [1, 2], "z": torch.ones(2), "w": 5}),
            ),
        )
        state_dict = source.state_dict()

        def load(*named_options):
            target = build(optim_info, groups(*named_options))
            target.load_state_dict(state_dict, strict=False)
            return target.param_groups

        # Of one saved group: its options.
        (group,) = load(([b], {"lr": 0.9, "x": 9}))
        self.assertEqual((group["lr"], group["x"]), (0.1, 1))
        # Of two that do not agree: its own.
        (group,) = load(([a, c], {"lr": 0.9, "x": 9, "w": 9}))
        self.assertEqual((group["lr"], group["x"], group["w"]), (0.9, 1, 9))
        self.assertEqual(group["y"], [1, 2])
        self.assertEqual(group["z"], torch.ones(2))
        # That not all of them have: its own, whichever comes first.
        (group,) = load(([c, a], {"lr": 0.9, "w": 9}))
        self.assertEqual((group["lr"], group["w"]), (0.9, 9))
        # Parameters that the file does not have do not count.
        (group,) = load(([d, c], {"lr": 0.9}))
        self.assertEqual((group["lr"], group["w"]), (0.2, 5))
        # Of no saved group: its own.
        one, other = load(([a], {"lr": 0.8}), ([d], {"lr": 0.7, "x": 7}))
        self.assertEqual((one["lr"], other["lr"], other["x"]), (0.1, 0.7, 7))
        # A saved group that is split: what the parts differ in stays, the rest comes
        # from the file, apart for each.
        one, other = load(([a], {"lr": 0.8, "x": 9}), ([b], {"lr": 0.7, "x": 9}))
        self.assertEqual((one["lr"], other["lr"]), (0.8, 0.7))
        self.assertEqual((one["x"], other["x"]), (1, 1))
        one["y"].append(3)
        self.assertEqual(other["y"], [1, 2])
        self.assertEqual(state_dict["param_groups"][0]["y"], [1, 2])

    @optims(PER_PARAMETER, dtypes=[torch.float32])
    def test_state_of_no_parameter(self, device, dtype, optim_info):
        source, _ = trained(optim_info, device, dtype)
        source.state["theirs"] = 1
        source.state["both"] = 2
        params = make_params(optim_info, device, dtype)
        target = build(optim_info, in_groups(optim_info, params))
        target.state["ours"] = 3
        target.state["both"] = 4
        target.load_state_dict(source.state_dict(), strict=False)
        own = {k: v for k, v in target.state.items() if isinstance(k, str)}
        self.assertEqual(own, {"theirs": 1, "both": 2, "ours": 3})
        target.load_state_dict(source.state_dict())
        own = {k: v for k, v in target.state.items() if isinstance(k, str)}
        self.assertEqual(own, {"theirs": 1, "both": 2})


instantiate_device_type_tests(TestMatchingTable, globals(), only_for=DEVICE_TYPES)
instantiate_device_type_tests(TestShuffledLoad, globals(), only_for=DEVICE_TYPES)
instantiate_device_type_tests(TestFailedLoad, globals(), only_for=DEVICE_TYPES)
instantiate_device_type_tests(TestLoadHooks, globals(), only_for=DEVICE_TYPES)
instantiate_device_type_tests(TestPartialLoad, globals(), only_for=DEVICE_TYPES)


def _momenta(*groups: str, lr: float | None = None) -> tuple[SGD, dict[str, Parameter]]:
    """SGD with a group for each string, of one parameter for each letter.

    The momentum of a parameter is the number of its letter.
    """
    params = {name: Parameter(torch.zeros(2)) for name in "".join(groups)}
    optimizer = SGD(
        [
            {"params": {name: params[name] for name in names}, "lr": lr or index + 1.0}
            for index, names in enumerate(groups)
        ],
        momentum=0.9,
    )
    for name, param in params.items():
        optimizer.state[param]["momentum_buffer"] = torch.full((2,), float(ord(name)))
    return optimizer, params


def _letters(optimizer: SGD, params: dict[str, Parameter]) -> dict[str, str]:
    """Whose momentum each parameter has."""
    return {
        name: chr(int(optimizer.state[param]["momentum_buffer"][0]))
        for name, param in params.items()
    }


class TestGroupRule(OptimTestCase):
    """Which groups go together, with ``strict=True``, and what errors say."""

    @parametrize(
        "theirs,ours,lrs",
        [
            subtest((["abc"], ["cab"], [1.0]), "one"),
            subtest((["ab", "c"], ["c", "ba"], [2.0, 1.0]), "swapped"),
            subtest((["a", "b", "c"], ["b", "c", "a"], [2.0, 3.0, 1.0]), "rotated"),
            subtest((["ab", ""], ["", "ab"], [2.0, 1.0]), "empty"),
            subtest(
                (["", "ab", "", "c"], ["c", "", "ba", ""], [4.0, 1.0, 2.0, 3.0]),
                "empty_in_order",
            ),
        ],
    )
    @parametrize("make", [subtest(dict, "named"), subtest(annotated, "annotated")])
    def test_same_groups(self, theirs, ours, lrs, make):
        source, _ = _momenta(*theirs)
        target, params = _momenta(*ours, lr=9.0)
        for param in params.values():
            target.state[param]["momentum_buffer"].fill_(0)
        target.load_state_dict(make(copy.deepcopy(source.state_dict())))
        self.assertEqual(_letters(target, params), {name: name for name in params})
        self.assertEqual([group["lr"] for group in target.param_groups], lrs)
        self.assertEqual(names_of(target), [list(names) for names in ours])

    @parametrize(
        "theirs,ours,words",
        [
            subtest(
                (
                    ["abc"],
                    ["ab", "c"],
                    [
                        "the optimizer has 2 param group(s), the state_dict 1.",
                        "Of param group 0 of the optimizer, param group 0 of the "
                        'state_dict has "a", "b".',
                        "Of param group 1 of the optimizer, param group 0 of the "
                        'state_dict has "c".',
                    ],
                ),
                "split",
            ),
            subtest(
                (
                    ["ab", "c"],
                    ["abc"],
                    [
                        "the optimizer has 1 param group(s), the state_dict 2.",
                        "Of param group 0 of the optimizer, param group 0 of the "
                        'state_dict has "a", "b", param group 1 of the state_dict '
                        'has "c".',
                    ],
                ),
                "merged",
            ),
            subtest((["ab", "c"], ["a", "bc"], ["Groups differ"]), "moved"),
            subtest((["a", "bc"], ["ab", "c"], ["Groups differ"]), "moved_up"),
            subtest((["ab", "cd"], ["ac", "bd"], ["Groups differ"]), "exchanged"),
            subtest((["ab"], ["ab", ""], ["has 2 param group(s)"]), "one_more"),
            subtest((["ab", "", ""], ["a", "b", ""], ["Groups differ"]), "not_empty"),
        ],
    )
    def test_groups_differ(self, theirs, ours, words):
        source, _ = _momenta(*theirs)
        target, _ = _momenta(*ours)
        for make in (dict, annotated):
            before = snapshot(target)
            with self.assertRaisesRegex(
                ValueError, r"^Error\(s\) in loading state_dict for SGD:\n\tGroups"
            ) as caught:
                target.load_state_dict(make(copy.deepcopy(source.state_dict())))
            for word in words:
                self.assertIn(word, str(caught.exception))
            self.assertNotIn("Missing", str(caught.exception))
            self.assert_unchanged(target, before)

    def test_all_in_one_error(self):
        source, _ = _momenta("abx", "c")
        state_dict = copy.deepcopy(source.state_dict())
        state_dict["state"]["a"]["momentum_buffer"] = torch.ones(3)
        target, _ = _momenta("ab", "cy", "z")
        with self.assertRaises(ValueError) as caught:
            target.load_state_dict(state_dict)
        lines = str(caught.exception).split("\n\t")
        self.assertEqual(lines[0], "Error(s) in loading state_dict for SGD:")
        self.assertEqual(lines[1], 'Missing key(s) in state_dict: "y", "z".')
        self.assertEqual(lines[2], 'Unexpected key(s) in state_dict: "x".')
        self.assertRegex(lines[3], "^Groups differ: .*3 param.*state_dict 2")
        for part in ("size mismatch", '"a"', '"momentum_buffer"', "(3,)", "(2,)"):
            self.assertIn(part, lines[4])
        self.assertIn("del state_dict['state']['a']", lines[5])
        self.assertEqual(len(lines), 6)

    def test_long_lists_are_cut(self):
        def optimizer(start, stop):
            params = {f"p{i}": Parameter(torch.ones(1)) for i in range(start, stop)}
            return SGD(params, lr=0.1)

        with self.assertRaises(ValueError) as caught:
            optimizer(0, 60).load_state_dict(optimizer(59, 101).state_dict())
        text = str(caught.exception)
        self.assertRegex(text, r'Missing.*"p0", "p1", .*"p19" and 39 more\.')
        self.assertRegex(text, r'Unexpected.*"p60", "p61", .*"p79" and 21 more\.')
        self.assertNotIn('"p20"', text)
        self.assertNotIn('"p80"', text)

    def test_exactly_as_many_as_are_listed(self):
        params = {f"p{i}": Parameter(torch.ones(1)) for i in range(21)}
        target = SGD(params, lr=0.1)
        source = SGD({"p20": params["p20"]}, lr=0.1)
        with self.assertRaisesRegex(ValueError, r'"p19"\.') as caught:
            target.load_state_dict(source.state_dict())
        self.assertNotIn("more", str(caught.exception))

    @parametrize(
        "theirs,ours,hint",
        [
            subtest(("module.{}", "{}", ("module.", None)), "ddp"),
            subtest(("{}", "a.b.{}", (None, "a.b.")), "deep"),
            subtest(("net._orig_mod.{}", "net.{}", ("_orig_mod.", None)), "inside"),
            subtest(("module.{}", "_orig_mod.{}", ("module.", "_orig_mod.")), "both"),
            subtest(("lora.{}", "lora.default.{}", (None, "default.")), "adapter"),
            subtest(("l.{}", "r.{}", None), "unlike"),
        ],
    )
    def test_prefixes_are_pointed_out(self, theirs, ours, hint):
        def optimizer(pattern):
            params = {
                pattern.format(name): Parameter(torch.ones(1))
                for name in ("fc.weight", "fc.bias")
            }
            return SGD({**params, "shared": Parameter(torch.ones(1))}, lr=0.1)

        target = optimizer(ours)
        with self.assertRaises(ValueError) as caught:
            target.load_state_dict(optimizer(theirs).state_dict())
        text = str(caught.exception)
        if hint is None:
            self.assertNotIn("Names in", text)
        else:
            theirs, ours = (f'have "{p}"' if p else "have nothing" for p in hint)
            self.assertIn(
                f"Names in the state_dict {theirs} where names in the optimizer {ours}.",
                text,
            )

    def test_a_subclass_is_named_in_errors(self):
        class Mine(SGD):
            pass

        target = Mine({"a": Parameter(torch.ones(1))}, lr=0.1)
        with self.assertRaisesRegex(ValueError, "state_dict for Mine:"):
            target.load_state_dict(_momenta("b")[0].state_dict())

    @parametrize("strict", [True, False])
    def test_a_name_in_two_saved_groups(self, strict):
        state_dict = copy.deepcopy(_momenta("ab", "c")[0].state_dict())
        state_dict["param_groups"][1]["params"] = ["c", "a"]
        target, _ = _momenta("ab", "c")
        before = snapshot(target)
        with self.assertRaisesRegex(
            ValueError, 'more than one param group.*"a"'
        ) as caught:
            target.load_state_dict(state_dict, strict)
        self.assertNotIn("Groups differ", str(caught.exception))
        self.assert_unchanged(target, before)

    @parametrize("theirs,ours", [subtest((12, 1), "there"), subtest((1, 12), "here")])
    def test_many_groups(self, theirs, ours):
        def groups(number):
            return ["abcdefghijkl"] if number == 1 else list("abcdefghijkl")

        target, _ = _momenta(*groups(ours))
        end = "and 2 more have the others" if ours == 1 else "And so on"
        with self.assertRaisesRegex(ValueError, rf"{end}\.") as caught:
            target.load_state_dict(_momenta(*groups(theirs))[0].state_dict())
        self.assertIn('"j"', str(caught.exception))
        self.assertNotIn('"k"', str(caught.exception))

    def test_other_names_and_other_groups(self):
        target, _ = _momenta("ab")
        with self.assertRaisesRegex(ValueError, r'Missing[^\n]*: "a", "b"\.'):
            target.load_state_dict(annotated(_momenta("xyz")[0].state_dict()))

    def test_one_name_twice_is_not_adopted(self):
        target = SGD([Parameter(torch.ones(1)), Parameter(torch.ones(1))], lr=0.1)
        state_dict = target.state_dict()
        state_dict["param_groups"][0].update(params=[0, 0], param_names=["a", "a"])
        with self.assertWarnsRegex(UserWarning, 'unique.*"a".*stays without names'):
            target.load_state_dict(state_dict)
        self.assertEqual(names_of(target), [None])

    def test_names_of_some_groups_stay(self):
        target, _ = _momenta("ab", "c")
        del target.param_groups[0]["param_names"]
        target.load_state_dict(indexed(_momenta("ab", "c")[0].state_dict()))
        self.assertEqual(names_of(target), [None, ["c"]])

    def test_a_file_without_an_option(self):
        target, _ = _momenta("a", "b")
        state_dict = copy.deepcopy(target.state_dict())
        del state_dict["param_groups"][1]["momentum"]
        before = snapshot(target)
        with self.assertRaisesRegex(ValueError, 'group 1,.*lacks.*"momentum"'):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)


class TestTiedParameters(OptimTestCase):
    """One parameter under several names, on either side."""

    def _tied(self, *names, lr=0.1):
        """SGD over ``x`` and one parameter under all of these names."""
        params = {"x": Parameter(torch.zeros(2))}
        tied = Parameter(torch.zeros(2))
        pairs = [*((name, tied) for name in names), ("x", params["x"])]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer = SGD(pairs, lr=lr, momentum=0.9)
        return optimizer, tied, params["x"]

    def _saved(self, *names):
        optimizer, tied, x = self._tied(*names)
        optimizer.state[tied]["momentum_buffer"] = torch.full((2,), 7.0)
        optimizer.state[x]["momentum_buffer"] = torch.full((2,), 5.0)
        return copy.deepcopy(optimizer.state_dict())

    def test_another_parameter_is_missing(self):
        # As many entries in the file as there are parameters
        apart = SGD({name: Parameter(torch.zeros(2)) for name in "ab"}, lr=0.1)
        with self.assertRaisesRegex(ValueError, 'Missing.*"x"'):
            self._tied("a", "b")[0].load_state_dict(apart.state_dict())

    @parametrize("theirs", ["a", "b", "ab", "ba"])
    @parametrize("ours", ["a", "b", "ab", "ba"])
    @parametrize("make", [subtest(dict, "named"), subtest(annotated, "annotated")])
    def test_under_any_shared_name(self, theirs, ours, make):
        state_dict = make(self._saved(*theirs))
        target, tied, x = self._tied(*ours)
        if not set(theirs) & set(ours):
            with self.assertRaisesRegex(ValueError, f'(?s)Missing.*"{ours}"'):
                target.load_state_dict(state_dict)
            return
        if make is dict and ours not in theirs and len(ours) == 1:
            # A named file lists a parameter under its first name only.
            self.assertEqual(state_dict["param_groups"][0]["params"][:1], [theirs[0]])
        if make is dict and len(theirs) == 2 and ours == theirs[1]:
            with self.assertRaisesRegex(ValueError, f'Missing.*"{ours}"'):
                target.load_state_dict(state_dict)
            return
        result = target.load_state_dict(state_dict)
        self.assertEqual(tuple(result), ([], []))
        self.assertEqual(target.state[tied]["momentum_buffer"], torch.full((2,), 7.0))
        self.assertEqual(target.state[x]["momentum_buffer"], torch.full((2,), 5.0))
        self.assertEqual(names_of(target), [[*ours, "x"]])

    @parametrize("make", [subtest(dict, "named"), subtest(annotated, "annotated")])
    def test_missing_under_its_first_name(self, make):
        source = SGD({"x": Parameter(torch.zeros(2))}, momentum=0.9)
        target, _, _ = self._tied("a", "b")
        with self.assertRaisesRegex(ValueError, r'Missing[^\n]*: "a"\.'):
            target.load_state_dict(make(source.state_dict()))
        result = target.load_state_dict(make(source.state_dict()), strict=False)
        self.assertEqual(tuple(result), (["a"], []))

    def test_tied_here_and_apart_there(self):
        apart = SGD({name: Parameter(torch.zeros(2)) for name in "abx"}, momentum=0.9)
        for param in apart.param_groups[0]["params"]:
            apart.state[param]["momentum_buffer"] = torch.ones(2)
        target, _, _ = self._tied("a", "b")
        before = snapshot(target)
        for make in (dict, annotated):
            with self.assertRaisesRegex(ValueError, 'Saved apart.*"b"'):
                target.load_state_dict(make(apart.state_dict()))
            self.assert_unchanged(target, before)

    @parametrize("strict", [True, False])
    @parametrize("with_state", ["a", "b"])
    def test_tied_here_and_one_of_them_has_state(self, strict, with_state):
        params = {name: Parameter(torch.zeros(2)) for name in "abx"}
        apart = SGD(params, lr=0.1, momentum=0.9)
        # Of another type, so that it has to be cast.
        momentum = torch.full((2,), 7.0, dtype=torch.float64)
        apart.state[params[with_state]]["momentum_buffer"] = momentum
        for make in (dict, annotated):
            target, tied, x = self._tied("a", "b")
            target.load_state_dict(make(copy.deepcopy(apart.state_dict())), strict)
            self.assertEqual(
                target.state[tied]["momentum_buffer"], torch.full((2,), 7.0)
            )
            self.assertNotIn(x, target.state)

    def test_tied_there_and_apart_here(self):
        target = SGD({name: Parameter(torch.zeros(2)) for name in "abx"}, momentum=0.9)
        before = snapshot(target)
        state_dict = annotated(self._saved("a", "b"))
        # As releases that know of no keys by name write it.
        group = state_dict["param_groups"][0]
        group["param_names"], group["params"] = ["a", "b", "x"], [0, 0, 1]
        with self.assertRaisesRegex(ValueError, 'Saved as the same.*"b"'):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)
        with self.assertRaisesRegex(ValueError, 'Missing.*"b"'):
            target.load_state_dict(self._saved("a", "b"))
        self.assert_unchanged(target, before)


class TestFlatHistory(OptimTestCase):
    """LBFGS keeps one history for all parameters, under the first of them."""

    def _run(self, optimizer, params, steps):
        def closure():
            optimizer.zero_grad()
            loss = sum(
                (p.abs() ** 2).sum() * (len(name) + 1) + (p.abs() ** 4).sum()
                for name, p in sorted(params.items())
            )
            loss.backward()
            return loss

        for _ in range(steps):
            optimizer.step(closure)

    def _params(self, kinds, order=None):
        shapes = {"a": (3, 2), "bb": (4,), "ccc": (), "dddd": (2, 2)}
        generator = torch.Generator().manual_seed(0)
        made = {
            name: torch.randn(shape, generator=generator, dtype=kinds[i % len(kinds)])
            for i, (name, shape) in enumerate(shapes.items())
        }
        return {name: Parameter(made[name]) for name in order or made}

    _KINDS = parametrize(
        "kinds",
        [
            subtest([torch.float64], "real"),
            subtest([torch.complex128], "complex"),
            subtest([torch.float64, torch.complex128], "mixed"),
        ],
    )

    @_KINDS
    @parametrize("line_search_fn", [None, "strong_wolfe"])
    @parametrize("make", [subtest(dict, "named"), subtest(annotated, "annotated")])
    def test_permuted(self, kinds, line_search_fn, make):
        options = {"lr": 0.05, "max_iter": 3, "line_search_fn": line_search_fn}
        params = self._params(kinds)
        source = LBFGS(params, **options)
        self._run(source, params, 4)
        state_dict = make(saved(source))
        before = describe(state_dict)

        other = self._params(kinds, ["ccc", "dddd", "a", "bb"])
        set_values(other, values(params))
        target = LBFGS(other, **options)
        target.load_state_dict(state_dict)
        self.assert_still(state_dict, before)
        self.assertEqual(list(target.state_dict()["state"]), ["ccc"])
        ours, theirs = target.state[other["ccc"]], source.state[params["a"]]
        self.assertEqual(list(ours), list(theirs))

        def parts(flat, named):
            sizes = [p.numel() * (2 if p.is_complex() else 1) for p in named.values()]
            return dict(zip(named, flat.split(sizes)))

        for key in ("d", "prev_flat_grad"):
            self.assertEqual(
                parts(ours[key], other), parts(theirs[key], params), rtol=0, atol=0
            )
        for key in ("old_dirs", "old_stps"):
            self.assertTrue(theirs[key])
            for mine, their in zip(ours[key], theirs[key], strict=True):
                self.assertEqual(
                    parts(mine, other), parts(their, params), rtol=0, atol=0
                )
        self.assert_same(ours["ro"], theirs["ro"])
        for key in ("func_evals", "n_iter", "t", "al"):
            self.assert_same(ours[key], theirs[key])

        self._run(source, params, 3)
        self._run(target, other, 3)
        self.assertEqual(
            values(params),
            {name: values(other)[name] for name in params},
            rtol=1e-9,
            atol=1e-12,
        )

    @parametrize("strict", [True, False])
    @parametrize(
        "order",
        [
            subtest(["a", "bb", "ccc"], "less"),
            subtest(["bb", "a", "ccc"], "less_and_another_order"),
            subtest(["a", "bb", "ccc", "dddd", "e"], "more"),
        ],
    )
    def test_other_parameters_are_refused(self, strict, order):
        params = self._params([torch.float64])
        source = LBFGS(params, max_iter=2)
        self._run(source, params, 2)
        all_params = {**self._params([torch.float64]), "e": Parameter(torch.ones(1))}
        target = LBFGS({name: all_params[name] for name in order})
        before = snapshot(target)
        with self.assertRaisesRegex(ValueError, "key" if strict else "same parameters"):
            target.load_state_dict(saved(source), strict)
        self.assert_unchanged(target, before)

    def test_a_vector_of_another_length(self):
        params = self._params([torch.float64])
        source = LBFGS(params, max_iter=2)
        self._run(source, params, 2)
        state_dict = saved(source)
        state_dict["state"]["a"]["d"] = torch.ones(3)
        other = self._params([torch.float64], ["bb", "a", "ccc", "dddd"])
        target = LBFGS(other)
        before = snapshot(target)
        with self.assertRaisesRegex(ValueError, '"d" of "a" has shape.*15 elements'):
            target.load_state_dict(state_dict)
        self.assert_unchanged(target, before)

    def test_an_unknown_flat_vector(self):
        # What a subclass keeps may depend on the order, too.
        params = self._params([torch.float64])
        source = LBFGS(params, max_iter=2)
        self._run(source, params, 2)
        source.state[params["a"]]["mine"] = torch.ones(15)
        target = LBFGS(self._params([torch.float64], ["bb", "a", "ccc", "dddd"]))
        with self.assertRaisesRegex(ValueError, '"mine" may depend on the order'):
            target.load_state_dict(saved(source))
        same = LBFGS(self._params([torch.float64]))
        same.load_state_dict(saved(source))

    def test_before_the_first_step(self):
        source = LBFGS(self._params([torch.float64]))
        target = LBFGS(self._params([torch.float64], ["bb", "a", "ccc", "dddd"]), lr=7)
        target.load_state_dict(saved(source))
        self.assertEqual(target.param_groups[0]["lr"], 1)
        self.assertEqual(len(target.state), 0)


class TestCasting(OptimTestCase):
    """The options of its saved group decide how a parameter's step is cast."""

    def _state_dict(self, make):
        params = {name: Parameter(torch.ones(2)) for name in "abcd"}
        optimizer = Adam(
            [
                {"params": {name: params[name] for name in "ab"}, "fused": True},
                {"params": {name: params[name] for name in "cd"}, "fused": False},
            ]
        )
        for name, param in params.items():
            optimizer.state[param] = {
                "step": torch.tensor(3.0, dtype=torch.float64),
                "exp_avg": torch.full((2,), float(ord(name)), dtype=torch.float64),
                "exp_avg_sq": torch.ones(2),
                "history": [torch.ones(2, dtype=torch.float64), {"x": 1}],
            }
        return make(optimizer.state_dict())

    @parametrize("make", [subtest(f, name) for name, f in FILES.items()])
    @parametrize("strict", [True, False])
    def test_step_and_others(self, make, strict):
        state_dict = self._state_dict(make)
        before = describe(state_dict)
        params = {name: Parameter(torch.ones(2)) for name in "abcd"}
        target = Adam(
            [
                {"params": {name: params[name] for name in "ab"}},
                {"params": {name: params[name] for name in "cd"}},
            ]
        )
        target.load_state_dict(state_dict, strict)
        for name, param in params.items():
            state = target.state[param]
            fused = name in "ab"
            self.assertEqual(
                state["step"].dtype, torch.float32 if fused else torch.float64
            )
            # Everything else takes the type of the parameter.
            self.assertEqual(state["exp_avg"].dtype, torch.float32)
            self.assertEqual(state["exp_avg"], torch.full((2,), float(ord(name))))
            self.assertEqual(state["history"][0].dtype, torch.float32)
            self.assertEqual(state["history"][1], {"x": 1})
        self.assert_still(state_dict, before)


class _Incomparable:
    """Cannot say whether it equals another, like an array of several elements."""

    def __eq__(self, other):
        raise ValueError("ambiguous")


class TestPartialGroups(OptimTestCase):
    """The options of groups that share parameters with saved ones."""

    def _load(self, theirs, ours):
        """What is in a group of ``a`` and ``b`` that had a group each."""
        source, _ = _momenta("a", "b", lr=0.1)
        for group, options in zip(source.param_groups, theirs, strict=True):
            group.update(options)
        target, _ = _momenta("ab", lr=0.9)
        target.param_groups[0].update(ours)
        target.load_state_dict(source.state_dict(), strict=False)
        return target.param_groups[0]

    @parametrize(
        "values",
        [
            subtest(([1, 2], (1, 2)), "list_and_tuple"),
            subtest((torch.ones(2), torch.ones(2, device="meta")), "devices"),
            subtest((torch.ones(2), torch.zeros(2)), "tensors"),
            subtest((_Incomparable(), _Incomparable()), "incomparable"),
        ],
    )
    def test_values_that_differ(self, values):
        group = self._load([{"x": value} for value in values], {"x": "own"})
        self.assertEqual(group["x"], "own")

    def test_none_is_a_value(self):
        self.assertEqual(self._load([{"x": None}, {}], {"x": "own"})["x"], "own")

    def test_rates_are_taken_together(self):
        rates = [{"lr": 0.1, "initial_lr": initial_lr} for initial_lr in (0.5, 0.7)]
        group = self._load(rates, {"initial_lr": 0.8})
        self.assertEqual((group["lr"], group["initial_lr"]), (0.9, 0.8))


class TestStateAlone(OptimTestCase):
    """A state dict without param groups: state is loaded by name, no options."""

    def _state(self, *groups):
        return {"state": copy.deepcopy(_momenta(*groups)[0].state_dict()["state"])}

    @parametrize("strict", [True, False])
    def test_by_name(self, strict):
        state_dict = self._state("ab", "c")
        state_dict["state"]["epoch"] = 3
        target, params = _momenta("ca", "b", lr=9.0)
        for param in params.values():
            target.state[param]["momentum_buffer"].fill_(0)
        target.state["own"] = 4
        result = target.load_state_dict(state_dict, strict)
        self.assertEqual(tuple(result), ([], []))
        self.assertEqual(_letters(target, params), {name: name for name in params})
        self.assertEqual([group["lr"] for group in target.param_groups], [9.0, 9.0])
        self.assertEqual([g["momentum"] for g in target.param_groups], [0.9, 0.9])
        self.assertEqual(names_of(target), [["c", "a"], ["b"]])
        self.assertEqual((target.state["epoch"], target.state["own"]), (3, 4))

    def test_other_parameters(self):
        target, params = _momenta("abc")
        target.state[params["c"]]["momentum_buffer"].fill_(ord("z"))
        before = snapshot(target)
        with self.assertRaisesRegex(
            ValueError, r'Missing.*"c"\.\n.*without saved state.*\n.*Unexpected.*"x"'
        ):
            target.load_state_dict(self._state("abx"))
        self.assert_unchanged(target, before)
        result = target.load_state_dict(self._state("abx"), strict=False)
        self.assertEqual(tuple(result), (["c"], ["x"]))
        self.assertEqual(_letters(target, params), {"a": "a", "b": "b", "c": "z"})

    def test_without_names(self):
        target, _ = _momenta("ab")
        state_dict = {"state": indexed(target.state_dict())["state"]}
        with self.assertRaisesRegex(ValueError, "parameter names.*one of them is 0"):
            target.load_state_dict(state_dict)

    def test_own_options_decide_on_casts(self):
        param = Parameter(torch.ones(2))
        target = Adam({"a": param}, fused=True)
        step = torch.tensor(3.0, dtype=torch.float64)
        state = {"step": step, "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2)}
        target.load_state_dict({"state": {"a": state}})
        self.assertEqual(target.state[param]["step"].dtype, torch.float32)


class TestStrays(OptimTestCase):
    """State in a file whose groups do not list its parameter."""

    @parametrize("strict", [True, False])
    def test_of_a_parameter_of_the_optimizer(self, strict):
        state_dict = copy.deepcopy(_momenta("ab")[0].state_dict())
        state_dict["param_groups"][0]["params"] = ["a"]
        target, _ = _momenta("ab")
        before = snapshot(target)
        with self.assertRaisesRegex(ValueError, 'In no param group.*"b"'):
            target.load_state_dict(state_dict, strict)
        # What is no state of a parameter, but has the name of one.
        state_dict["state"]["b"] = 3
        with self.assertRaisesRegex(ValueError, '"b", which is also|Missing.*"b"'):
            target.load_state_dict(state_dict, strict)
        self.assert_unchanged(target, before)

    @parametrize("instead_of_another", [True, False])
    def test_of_no_parameter(self, instead_of_another):
        state_dict = copy.deepcopy(_momenta("ab")[0].state_dict())
        if instead_of_another:
            del state_dict["state"]["b"]
        state_dict["state"]["x"] = {"momentum_buffer": torch.ones(2)}
        target, _ = _momenta("ab")
        with self.assertRaisesRegex(ValueError, 'Unexpected.*"x"'):
            target.load_state_dict(state_dict)
        result = target.load_state_dict(state_dict, strict=False)
        self.assertEqual(tuple(result), ([], ["x"]))
        self.assertNotIn("x", target.state)


class TestDecidingOptions(OptimTestCase):
    """State and the options that decide which state there is."""

    def _adam(self, *groups, steps=1, **kwargs):
        params = {n: Parameter(torch.ones(2)) for names, _ in groups for n in names}
        optimizer = Adam(
            [{"params": {n: params[n] for n in names}, **o} for names, o in groups],
            **kwargs,
        )
        for _ in range(steps):
            for param in params.values():
                param.grad = torch.ones(2)
            optimizer.step()
        return optimizer

    def _refused(self, target, state_dict, regex, strict=False):
        before = snapshot(target)
        with self.assertRaisesRegex(ValueError, regex):
            target.load_state_dict(state_dict, strict)
        self.assert_unchanged(target, before)

    def test_own_state_and_a_saved_option(self):
        source = self._adam(("a", {"amsgrad": True}), steps=0)
        self._refused(
            self._adam(("a", {})),
            source.state_dict(),
            'decides.*"a" comes from the optimizer with amsgrad=False.*amsgrad=True',
        )

    @parametrize("option", ["amsgrad", "fused"])
    def test_saved_state_and_an_own_option(self, option):
        source = self._adam(("a", {option: True}), ("b", {option: False}))
        self._refused(
            self._adam(("ab", {option: False}), steps=0),
            source.state_dict(),
            f'decides.*"a" comes from the state_dict with {option}=True.*{option}=False',
        )

    @parametrize("value", [True, torch.ones(2)])
    def test_an_option_without_its_state(self, value):
        source = self._adam(("a", {}))
        source.param_groups[0]["amsgrad"] = value
        self._refused(
            self._adam(("a", {})),
            source.state_dict(),
            'The state of "a" has no "max_exp_avg_sq", which amsgrad=.* needs',
            strict=True,
        )

    def test_state_without_an_entry(self):
        names = [f"p{i}" for i in range(13)]
        source = self._adam((names, {}))
        without_state, *others = source.state.values()
        without_state.clear()
        for state in others:
            del state["exp_avg"]
        target, file = self._adam((names, {})), source.state_dict()
        with self.assertRaisesRegex(ValueError, "And so on.") as caught:
            target.load_state_dict(file)
        self.assertIn('The state of "p10" has no "exp_avg".', str(caught.exception))
        self.assertNotIn('"p0"', str(caught.exception))
        self.assertNotIn('"p11"', str(caught.exception))
        del file["state"]["p0"]  # All states have the same entries now.
        with self.assertRaisesRegex(ValueError, 'The state of "p1" has no "exp_avg".'):
            target.load_state_dict(file)

    def test_many_misshapen(self):
        names = [f"p{i}" for i in range(12)]
        source = self._adam((names, {}))
        for state in source.state.values():
            state["exp_avg"] = torch.ones(3)
        target = self._adam((names, {}))
        with self.assertRaisesRegex(ValueError, "of 2 more parameters") as caught:
            target.load_state_dict(source.state_dict())
        self.assertIn('"p9"', str(caught.exception))
        self.assertNotIn('"p10"', str(caught.exception))

    def test_the_second_moment_of_amsgrad_has_a_shape(self):
        source = self._adam(("a", {"amsgrad": True}))
        (state,) = source.state.values()
        state["max_exp_avg_sq"] = torch.ones(3)
        self._refused(
            self._adam(("a", {"amsgrad": True})),
            source.state_dict(),
            'size mismatch: "max_exp_avg_sq"',
        )

    def test_a_number_in_place_of_a_tensor(self):
        source = self._adam(("a", {}))
        (state,) = source.state.values()
        state["exp_avg"] = 3.0
        target = self._adam(("a", {}))
        self._refused(target, source.state_dict(), 'Tensor as "exp_avg".*float', True)

    def test_lazy_parameters(self):
        lazy = torch.nn.LazyLinear(2)
        source = self._adam(("a", {}))
        state = {"weight": copy.deepcopy(source.state_dict()["state"]["a"])}
        target = Adam({"weight": lazy.weight})
        target.load_state_dict({"state": state}, strict=False)
        self.assertEqual(target.state[lazy.weight]["exp_avg"].shape, (2,))

    def test_empty_state(self):
        target = self._adam(("ab", {}))
        state_dict = copy.deepcopy(target.state_dict())
        # As it is after a mere look at optimizer.state[param].
        state_dict["state"]["a"] = {}
        target.load_state_dict(state_dict)
        self.assertEqual(target.state_dict()["state"]["a"], {})

    def test_kept_state_is_as_before_after_a_failure(self):
        # Adam.__setstate__ makes tensors of the steps of old files, in place.
        source = self._adam(("b", {}))
        target = self._adam(("ab", {}))
        for state in (*source.state.values(), *target.state.values()):
            state["step"] = 1.0

        def fail(optimizer):
            raise RuntimeError("a hook that fails")

        target.register_load_state_dict_post_hook(fail)
        before = snapshot(target)
        with self.assertRaisesRegex(RuntimeError, "a hook that fails"):
            target.load_state_dict(source.state_dict(), strict=False)
        self.assert_unchanged(target, before)


def _of_its_own(cls):
    """A class that may keep other state than its base, so that none is known."""
    return type("Mine", (cls,), {"step": lambda self: None})


class TestUnknownState(OptimTestCase):
    """A class that declares nothing of what it keeps."""

    _adam = TestDecidingOptions._adam

    def test_what_is_no_dict(self):
        param = Parameter(torch.ones(2))
        target = _of_its_own(SGD)({"a": param}, lr=0.1)
        state_dict = copy.deepcopy(target.state_dict())
        state_dict["state"]["a"] = [1, 2]
        target.load_state_dict(state_dict)
        self.assertEqual(target.state[param], [1, 2])

    def test_a_passed_entry_is_not_converted(self):
        # Adagrad.__setstate__ makes tensors of all steps if that of the first entry is none.
        source = Adagrad({"a": Parameter(torch.ones(2))})
        for state in source.state.values():
            state["step"] = 1.0
        state_dict = source.state_dict()
        state_dict["state"] = {"shared": {"step": 1.0}, **state_dict["state"]}
        before = describe(state_dict)
        target = _of_its_own(Adagrad)({"a": Parameter(torch.ones(2))})
        target.load_state_dict(state_dict)
        self.assertIsInstance(target.state["shared"]["step"], torch.Tensor)
        self.assert_still(state_dict, before)

    def test_no_state_of_a_parameter(self):
        target = SGD({"a": Parameter(torch.ones(2))}, lr=0.1)
        state_dict = {**target.state_dict(), "state": {"shared": {"step": 1.0}}}
        target.load_state_dict(state_dict)
        self.assertEqual(dict(target.state), {"shared": {"step": 1.0}})

    def test_a_merged_group_decides_on_casts(self):
        source = self._adam(("a", {"fused": True}), ("b", {"fused": False}))
        for state in source.state.values():
            state["step"] = state["step"].double()
        params = {name: Parameter(torch.ones(2)) for name in "ab"}
        target = _of_its_own(Adam)(params, fused=True)
        target.load_state_dict(source.state_dict(), strict=False)
        for param in params.values():
            self.assertEqual(target.state[param]["step"].dtype, torch.float32)


class _LoadsByPosition(SGD):
    """Puts its own parameters into saved groups, as classes outside torch do."""

    def load_state_dict(self, state_dict):
        groups = [
            {**theirs, "params": own["params"]}
            for own, theirs in zip(self.param_groups, state_dict["param_groups"])
        ]
        self.__setstate__({"state": self.state, "param_groups": groups})


class TestOwnLoad(OptimTestCase):
    """A load of a class's own that ends in ``Optimizer.__setstate__``."""

    def _target(self):
        return _LoadsByPosition({n: Parameter(torch.ones(1)) for n in "ab"}, lr=0.1)

    def _file(self, *names, lr=7.0):
        return SGD({n: Parameter(torch.ones(1)) for n in names}, lr=lr).state_dict()

    @parametrize("names", ["ab", "xy", "ax"])
    def test_names_stay(self, names):
        target = self._target()
        target.load_state_dict(self._file(*names))
        self.assertEqual(names_of(target), [["a", "b"]])
        self.assertEqual(target.param_groups[0]["lr"], 7.0)

    def test_another_order(self):
        target = self._target()
        before = snapshot(target)
        with self.assertRaisesRegex(ValueError, 'parameter "a" would be named "b"'):
            target.load_state_dict(self._file("b", "a"))
        self.assert_unchanged(target, before)

    def test_new_parameters_bring_their_names(self):
        target = self._target()
        groups = [{"params": [Parameter(torch.ones(1))], "param_names": ["new"]}]
        target.__setstate__({"param_groups": groups})
        self.assertEqual(names_of(target), [["new"]])

    def test_names_edited_by_hand(self):
        target = self._target()
        target.param_groups[0]["param_names"] = ["a"]
        target.load_state_dict(self._file("b", "a"))
        self.assertEqual(names_of(target), [["b", "a"]])


instantiate_parametrized_tests(TestGroupRule)
instantiate_parametrized_tests(TestTiedParameters)
instantiate_parametrized_tests(TestFlatHistory)
instantiate_parametrized_tests(TestCasting)
instantiate_parametrized_tests(TestPartialGroups)
instantiate_parametrized_tests(TestStateAlone)
instantiate_parametrized_tests(TestStrays)
instantiate_parametrized_tests(TestDecidingOptions)
instantiate_parametrized_tests(TestUnknownState)
instantiate_parametrized_tests(TestOwnLoad)


if __name__ == "__main__":
    run_tests()
