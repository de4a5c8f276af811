# Owner(s): ["module: optimizer"]

"""Names go in: constructing optimizers, and adding param groups to them."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

from _common import (
    build,
    DEVICE_TYPES,
    GROUPED,
    in_groups,
    make_params,
    names_of,
    OptimTestCase,
    saved,
    snapshot,
    state_by_name,
    train,
    values,
)
from _describe import describe

import torch
from torch.nn import Parameter
from torch.optim import Adam, SGD, SparseAdam
from torch.testing._internal.common_device_type import instantiate_device_type_tests
from torch.testing._internal.common_optimizers import (
    ErrorOptimizerInput,
    optim_db,
    OptimizerInput,
    optims,
)
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


# Whatever holds names and parameters, and makes the same param group of them.
FORMS: dict[str, Callable[[dict[str, Parameter]], Any]] = {
    "pairs": lambda params: list(params.items()),
    "tuple_of_pairs": lambda params: tuple(params.items()),
    "generator": lambda params: ((name, p) for name, p in params.items()),
    "items": lambda params: params.items(),
    "mapping": lambda params: params,
    "ordered_dict": lambda params: OrderedDict(params),
    "mapping_proxy": lambda params: MappingProxyType(params),
}


class _Module(torch.nn.Module):
    """The methods that give parameters, for any names."""

    def __init__(self, params: dict[str, Parameter]) -> None:
        super().__init__()
        for name, param in params.items():
            self.register_parameter(name.replace(".", "_"), param)


def _param(device: Any = "cpu", dtype: torch.dtype = torch.float32) -> Parameter:
    # Two-dimensional, as Muon needs it.
    return Parameter(torch.ones(2, 3, device=device, dtype=dtype))


def _constructor_errors(device: Any, dtype: torch.dtype) -> list[ErrorOptimizerInput]:
    """Inputs that no optimizer takes, each with its error."""
    p, q, r = (_param(device, dtype) for _ in range(3))
    module = _Module({"weight": p, "bias": q})

    def error(desc: str, params: Any, kind: type, regex: str) -> ErrorOptimizerInput:
        return ErrorOptimizerInput(
            OptimizerInput(params=params, kwargs={}, desc=desc),
            error_type=kind,
            error_regex=regex,
        )

    some_missing = (
        "^all optimizer params should be with/without names. "
        "Some param names are missing$"
    )
    mixed_groups = (
        "^all optimizer param groups should be with/without names. "
        "cannot add param group {} names to the optimizer$"
    )
    return [
        error("named first in a group", [("a", p), q], ValueError, some_missing),
        error("named last in a group", [p, q, ("a", r)], ValueError, some_missing),
        error(
            "mixed in a group dict",
            [{"params": [("a", p), q]}],
            ValueError,
            some_missing,
        ),
        error(
            "named groups, then one without",
            [{"params": [("a", p)]}, {"params": [q]}],
            ValueError,
            mixed_groups.format("without"),
        ),
        error(
            "a group without names, then a mapping",
            [{"params": [p]}, {"params": {"a": q}}],
            ValueError,
            mixed_groups.format("with"),
        ),
        error(
            "two parameters of one name",
            [("a", p), ("b", q), ("a", r)],
            ValueError,
            r'unique.*"a".*prefix',
        ),
        error(
            "two parameters of one name in two groups",
            [{"params": {"a": p, "b": q}}, {"params": {"a": r}}],
            ValueError,
            r'unique.*"a".*prefix',
        ),
        error(
            "all names that are taken",
            [{"params": {"a": p, "b": q}}, {"params": {"b": r, "a": _param()}}],
            ValueError,
            r'unique.*"b", "a"',
        ),
        error("a name that is an int", [(1, p)], TypeError, "str.* 1 of type int"),
        error("a name that is None", [("a", p), (None, q)], TypeError, "str.*NoneType"),
        error("a name that is bytes", {b"a": p}, TypeError, "str.*bytes"),
        error("an int as key", {0: p}, TypeError, "str.* 0 of type int"),
        error(
            "an int as key in a group",
            [{"params": {0: p}}],
            TypeError,
            "str.* 0 of type int",
        ),
        error(
            "a tensor before its name", [(p, "a")], TypeError, "str.*(Tensor|Parameter)"
        ),
        error("a triple", [("a", p, 1)], TypeError, "pairs.*length 3"),
        error("a tuple of one", [("a",)], TypeError, "pairs.*length 1"),
        error(
            "a pair without a tensor",
            [("a", 1)],
            TypeError,
            r"can only optimize Tensors.*int.*\(parameter 'a'\)",
        ),
        error(
            "a value that is no tensor",
            {"a": p, "b": 3},
            TypeError,
            "Tensors as values.*'b' is int",
        ),
        error(
            "a value that is a list of numbers in a group",
            [{"params": {"b": 3.0}}],
            TypeError,
            "Tensors as values.*'b' is float",
        ),
        error(
            "a nested mapping",
            {"model": {"a": p}},
            TypeError,
            r"'model'.*prefix.*f'model\.",
        ),
        error(
            "nested parameters",
            {"model": module.parameters()},
            TypeError,
            r"'model'.*prefix.*f'model\.",
        ),
        error(
            "a lone group",
            {"params": [p], "lr": 0.1},
            TypeError,
            r"'params'.*wrap it in a list",
        ),
        error(
            "a lone group of one tensor",
            {"params": p, "lr": 0.1},
            TypeError,
            r"'lr'.*wrap it in a list",
        ),
        error(
            "a module's state dict",
            module.state_dict(),
            ValueError,
            r"'weight'.*state_dict\(\).*please pass dict\(model.named_parameters\(\)\)",
        ),
        error(
            "a module's state dict in a group",
            [{"params": module.state_dict()}],
            ValueError,
            r"'weight'.*state_dict\(\).*please pass dict\(model.named_parameters\(\)\)",
        ),
        error(
            "more names than parameters",
            [{"params": [p], "param_names": ["a", "b"]}],
            ValueError,
            "2 names for 1 param",
        ),
        error(
            "fewer names than parameters",
            [{"params": [p, q], "param_names": ["a"]}],
            ValueError,
            "1 names for 2 param",
        ),
        error(
            "no names for parameters",
            [{"params": [p], "param_names": []}],
            ValueError,
            "0 names for 1 param",
        ),
        error(
            "names that are one string",
            [{"params": [p], "param_names": "a"}],
            TypeError,
            "param_names should be a list.*str",
        ),
        error(
            "names that are a set",
            [{"params": [p], "param_names": {"a"}}],
            TypeError,
            "param_names should be a list.*set",
        ),
        error(
            "names that are None",
            [{"params": [p], "param_names": None}],
            TypeError,
            "param_names should be a list.*NoneType",
        ),
        error(
            "given names that are no strings",
            [{"params": [p, q], "param_names": ["a", 2]}],
            TypeError,
            "str.* 2 of type int",
        ),
        error(
            "given names twice",
            [{"params": [p, q], "param_names": ["a", "a"]}],
            ValueError,
            'unique.*"a"',
        ),
        error(
            "given names that are not those of the pairs",
            [{"params": [("a", p)], "param_names": ["b"]}],
            ValueError,
            "both named parameters and param_names",
        ),
        error(
            "a named non-leaf",
            [("a", p * 2)],
            ValueError,
            r"^can't optimize a non-leaf Tensor \(parameter 'a'\)$",
        ),
        error(
            "one named parameter in two groups",
            [{"params": {"a": p}}, {"params": {"b": p}}],
            ValueError,
            '^some parameters appear in more than one parameter group: "b"$',
        ),
        error(
            "no parameters", {}, ValueError, "^optimizer got an empty parameter list$"
        ),
        error("no pairs", iter({}.items()), ValueError, "^optimizer got an empty"),
    ]


class TestNamedConstruction(OptimTestCase):
    @optims(optim_db, dtypes=[torch.float32])
    @parametrize("form", FORMS)
    def test_one_group(self, device, dtype, optim_info, form):
        params = make_params(optim_info, device, dtype)
        optimizer = build(optim_info, FORMS[form](params))
        (group,) = optimizer.param_groups
        self.assertEqual(group["param_names"], list(params))
        self.assertIs(type(group["param_names"]), list)
        self.assertIs(type(group["params"]), list)
        self.assertEqual(list(map(id, group["params"])), list(map(id, params.values())))
        # Nothing of how it was built is left.
        unnamed = build(optim_info, list(params.values()))
        self.assertEqual(list(vars(optimizer)), list(vars(unnamed)))
        self.assertEqual(
            [key for key in group if key != "param_names"],
            list(unnamed.param_groups[0]),
        )

    @optims(GROUPED, dtypes=[torch.float32])
    @parametrize("form", FORMS)
    def test_groups(self, device, dtype, optim_info, form):
        params = make_params(optim_info, device, dtype)
        expected = in_groups(optim_info, params)
        groups = ({**g, "params": FORMS[form](g["params"])} for g in expected)
        optimizer = build(optim_info, groups)
        for group, wanted in zip(optimizer.param_groups, expected, strict=True):
            self.assertEqual(group["param_names"], list(wanted["params"]))
            self.assertEqual(
                list(map(id, group["params"])), list(map(id, wanted["params"].values()))
            )
            self.assertEqual(group["lr"], wanted["lr"])

    @optims(optim_db, dtypes=[torch.float32])
    def test_module(self, device, dtype, optim_info):
        module = _Module(make_params(optim_info, device, dtype))
        optimizer = build(optim_info, module.named_parameters(prefix="net"))
        self.assertEqual(
            names_of(optimizer), [[n for n, _ in module.named_parameters("net")]]
        )
        self.assertEqual(names_of(build(optim_info, module.parameters())), [None])

    @optims(optim_db, dtypes=[torch.float32])
    def test_param_names_given_in_a_group(self, device, dtype, optim_info):
        params = make_params(optim_info, device, dtype)
        for names in (list(params), tuple(params), iter(params)):
            group = {"params": list(params.values()), "param_names": names}
            optimizer = build(optim_info, [group])
            self.assertEqual(names_of(optimizer), [list(params)])
            train(optim_info, optimizer, params, range(1))
        both = {"params": params, "param_names": list(params)}
        self.assertEqual(names_of(build(optim_info, [both])), [list(params)])

    @optims(optim_db, dtypes=[torch.float32])
    def test_errors(self, device, dtype, optim_info):
        for error_input in _constructor_errors(device, dtype):
            optim_input = error_input.optimizer_error_input
            with (
                self.subTest(optim_input.desc),
                self.assertRaisesRegex(error_input.error_type, error_input.error_regex),
            ):
                build(optim_info, optim_input.params)

    @optims(optim_db, dtypes=[torch.float32])
    def test_upstream_error_inputs_still_fail(self, device, dtype, optim_info):
        for error_input in optim_info.optim_error_inputs_func(device, dtype):
            optim_input = error_input.optimizer_error_input
            params = optim_input.params
            if issubclass(error_input.error_type, Warning) or "STEP" in str(
                error_input.error_on
            ):
                continue
            if params is None:
                params = {"a": _param(device, dtype)}
            elif isinstance(params, list) and all(
                isinstance(p, torch.Tensor) for p in params
            ):
                params = {f"p{i}": Parameter(p) for i, p in enumerate(params)}
            with (
                self.subTest(optim_input.desc),
                self.assertRaisesRegex(error_input.error_type, error_input.error_regex),
            ):
                build(optim_info, params, optim_input)

    @optims(optim_db, dtypes=[torch.float32])
    def test_tied_parameters(self, device, dtype, optim_info):
        params = make_params(optim_info, device, dtype)
        first, second = list(params)[:2]
        pairs = [*params.items(), ("tied", params[first])]
        with self.assertWarnsRegex(UserWarning, "duplicate parameters"):
            optimizer = build(optim_info, pairs)
        self.assertEqual(names_of(optimizer), [[*params, "tied"]])
        # Sharing a name, too, is no clash: it is the same parameter.
        with self.assertWarnsRegex(UserWarning, "duplicate parameters"):
            twice = build(optim_info, [*params.items(), (first, params[first])])
        self.assertEqual(names_of(twice), [[*params, first]])
        with (
            self.assertWarnsRegex(UserWarning, "duplicate parameters"),
            self.assertRaisesRegex(ValueError, f'unique.*"{second}"'),
        ):
            build(optim_info, [*params.items(), (second, params[first])])

    @optims(optim_db, dtypes=[torch.float32])
    def test_mapping_of_frozen_parameters(self, device, dtype, optim_info):
        # What is detached from a model is refused only if it cannot be trained.
        frozen = {"a": _param(device, dtype).requires_grad_(False)}
        self.assertEqual(names_of(build(optim_info, frozen)), [["a"]])
        with_grad = torch.ones(2, 3, device=device, dtype=dtype)
        with_grad.grad = torch.ones_like(with_grad)
        self.assertEqual(names_of(build(optim_info, {"a": with_grad})), [["a"]])
        plain = torch.ones(2, 3, device=device, dtype=dtype)
        mixed = {"a": _param(device, dtype), "b": plain}
        self.assertEqual(names_of(build(optim_info, mixed)), [["a", "b"]])
        # Pairs are not a state dict.
        self.assertEqual(names_of(build(optim_info, [("a", plain)])), [["a"]])


def _group_errors(
    optimizer: torch.optim.Optimizer, device: Any, dtype: torch.dtype
) -> list[tuple[str, Any, type, str]]:
    """Param groups that cannot be added to a named optimizer."""
    taken = names_of(optimizer)[0][0]
    member = optimizer.param_groups[0]["params"][0]
    p, q = _param(device, dtype), _param(device, dtype)
    return [
        ("no dict", [("a", p)], TypeError, "param_group must be a dict"),
        ("no params", {"lr": 0.1}, KeyError, "params"),
        ("a set", {"params": {p, q}}, TypeError, "ordered collections"),
        (
            "without names",
            {"params": [p]},
            ValueError,
            "cannot add param group without",
        ),
        ("a tensor", {"params": p}, ValueError, "cannot add param group without names"),
        (
            "mixed",
            {"params": [("a", p), q]},
            ValueError,
            "Some param names are missing",
        ),
        ("name taken", {"params": {taken: p}}, ValueError, f'unique.*"{taken}"'),
        ("own name twice", {"params": [("a", p), ("a", q)]}, ValueError, 'unique.*"a"'),
        ("not a str", {"params": [(1, p)]}, TypeError, "should be of type str"),
        ("not a tensor", {"params": {"a": "b"}}, TypeError, "Tensors as values"),
        ("nested", {"params": {"m": {"a": p}}}, TypeError, "prefix"),
        (
            "a pair without a tensor",
            {"params": [("a", 1)]},
            TypeError,
            "can only optimize",
        ),
        ("non-leaf", {"params": [("a", p * 2)]}, ValueError, "non-leaf Tensor .*'a'"),
        (
            "parameter taken",
            {"params": {"a": member}},
            ValueError,
            "more than one param",
        ),
        (
            "too many names",
            {"params": [p], "param_names": ["a", "b"]},
            ValueError,
            "2 names for 1 param",
        ),
        (
            "too few names",
            {"params": [p, q], "param_names": ["a"]},
            ValueError,
            "1 names for 2 param",
        ),
        (
            "state dict",
            {"params": {"a": p.detach()}},
            ValueError,
            "dict\\(model.named_parameters\\(\\)\\)",
        ),
    ]


class TestAddParamGroup(OptimTestCase):
    @optims(GROUPED, dtypes=[torch.float32])
    @parametrize("form", FORMS)
    def test_forms(self, device, dtype, optim_info, form):
        params = make_params(optim_info, device, dtype)
        first, *rest = params
        optimizer = build(optim_info, {first: params[first]})
        group = {"params": FORMS[form]({n: params[n] for n in rest}), "lr": 0.5}
        optimizer.add_param_group(group)
        self.assertEqual(names_of(optimizer), [[first], rest])
        self.assertEqual(
            list(map(id, optimizer.param_groups[1]["params"])),
            [id(params[name]) for name in rest],
        )
        self.assertEqual(optimizer.param_groups[1]["lr"], 0.5)
        # The caller's dict becomes the group, as it always did.
        self.assertIs(optimizer.param_groups[1], group)
        train(optim_info, optimizer, params, range(2))
        self.assertEqual(
            set(optimizer.state_dict()["state"]), set(state_by_name(optimizer, params))
        )

    @optims(optim_db, dtypes=[torch.float32])
    def test_a_failure_changes_nothing(self, device, dtype, optim_info):
        params = make_params(optim_info, device, dtype)
        optimizer = build(optim_info, params)
        train(optim_info, optimizer, params, range(1))
        for desc, group, kind, regex in _group_errors(optimizer, device, dtype):
            with self.subTest(desc):
                before = snapshot(optimizer)
                held = dict(group) if isinstance(group, dict) else None
                group_before = describe(group)
                with self.assertRaisesRegex(kind, regex):
                    optimizer.add_param_group(group)
                self.assert_unchanged(optimizer, before)
                self.assert_still(group, group_before)
                if held is not None:
                    self.assertTrue(all(group[key] is held[key] for key in held))

    @optims(GROUPED, dtypes=[torch.float32])
    def test_names_to_an_unnamed_optimizer(self, device, dtype, optim_info):
        params = make_params(optim_info, device, dtype)
        first, second, *_ = params
        optimizer = build(optim_info, [params[first]])
        before = snapshot(optimizer)
        group = {"params": {second: params[second]}}
        with self.assertRaisesRegex(
            ValueError,
            "^all optimizer param groups should be with/without names. "
            "cannot add param group with names to the optimizer$",
        ):
            optimizer.add_param_group(group)
        self.assert_unchanged(optimizer, before)
        self.assertEqual(list(group), ["params"])
        optimizer.add_param_group({"params": params[second]})
        self.assertEqual(names_of(optimizer), [None, None])

    @optims(GROUPED, dtypes=[torch.float32])
    def test_groups_edited_by_hand(self, device, dtype, optim_info):
        # What was true when a group was added need not be true any longer.
        params = make_params(optim_info, device, dtype)
        first, second, third, *_ = params
        optimizer = build(optim_info, {first: params[first]})
        optimizer.add_param_group({"params": {second: params[second]}})
        del optimizer.param_groups[0]
        optimizer.add_param_group({"params": {first: params[first]}})
        self.assertEqual(names_of(optimizer), [[second], [first]])
        group = optimizer.param_groups[1]
        group["params"], group["param_names"] = [params[third]], ["third"]
        optimizer.add_param_group({"params": {first: params[first]}})
        with self.assertRaisesRegex(ValueError, 'unique.*"third"'):
            optimizer.add_param_group({"params": {"third": _param(device, dtype)}})
        self.assertEqual(names_of(optimizer), [[second], ["third"], [first]])

    @optims(GROUPED, dtypes=[torch.float32])
    def test_after_a_load(self, device, dtype, optim_info):
        params = make_params(optim_info, device, dtype)
        first, *rest = params
        optimizer = build(optim_info, {first: params[first]})
        train(optim_info, optimizer, {first: params[first]}, range(2))
        optimizer.load_state_dict(saved(optimizer))
        with self.assertRaisesRegex(ValueError, f'unique.*"{first}"'):
            optimizer.add_param_group({"params": {first: _param(device, dtype)}})
        optimizer.add_param_group({"params": {name: params[name] for name in rest}})
        train(optim_info, optimizer, params, range(2, 4))
        self.assertEqual(names_of(optimizer), [[first], rest])


instantiate_device_type_tests(TestNamedConstruction, globals(), only_for=DEVICE_TYPES)
instantiate_device_type_tests(TestAddParamGroup, globals(), only_for=DEVICE_TYPES)


class TestConstructionDetails(OptimTestCase):
    """What does not depend on the optimizer's class."""

    @parametrize(
        "empty",
        [subtest([0], "first"), subtest([1], "last"), subtest([0, 1, 3], "several")],
    )
    def test_empty_groups(self, empty):
        groups = [{"params": {"a": _param()}}]
        for position in empty:
            groups.insert(position, {"params": []})
        optimizer = SGD(groups, lr=0.1)
        for index, names in enumerate(names_of(optimizer)):
            self.assertEqual(names, [] if index in empty else ["a"])
        state_dict = optimizer.state_dict()
        self.assertEqual(state_dict["param_groups"][empty[0]]["params"], [])
        optimizer.load_state_dict(state_dict)

    def test_an_empty_group_without_names_goes_with_both(self):
        unnamed = SGD([_param()], lr=0.1)
        unnamed.add_param_group({"params": []})
        self.assertEqual(names_of(unnamed), [None, None])
        unnamed.add_param_group({"params": [_param()]})
        named = SGD({"a": _param()}, lr=0.1)
        named.add_param_group({"params": []})
        named.add_param_group({"params": {}})
        self.assertEqual(names_of(named), [["a"], [], []])
        undecided = SGD([{"params": []}], lr=0.1)
        self.assertEqual(names_of(undecided), [None])
        undecided.add_param_group({"params": {"a": _param()}})
        self.assertEqual(names_of(undecided), [[], ["a"]])

    def test_an_empty_group_with_names_goes_with_named_ones_only(self):
        optimizer = SGD([_param()], lr=0.1)
        with self.assertRaisesRegex(ValueError, "cannot add param group with names"):
            optimizer.add_param_group({"params": [], "param_names": []})
        self.assertEqual(names_of(optimizer), [None])

    def test_edited_by_hand_after_several_groups(self):
        p, q = _param(), _param()
        optimizer = SGD([{"params": {"a": p}}, {"params": {"b": q}}], lr=0.1)
        del optimizer.param_groups[0]
        optimizer.add_param_group({"params": {"a": p}})
        self.assertEqual(names_of(optimizer), [["b"], ["a"]])

    def test_many_names_in_an_error_are_cut(self):
        params = {f"p{i}": _param(dtype=torch.complex64) for i in range(25)}
        with self.assertRaisesRegex(ValueError, r"'p0', .*'p19' and 5 more\)"):
            SparseAdam(params)

    def test_repr_shows_some_names(self):
        optimizer = SGD({f"p{i}": _param() for i in range(12)}, lr=0.1)
        names = "param_names: ['p0', 'p1', 'p2', ...] (12 names)"
        self.assertIn(names, repr(optimizer))

    def test_names_are_kept_as_they_are(self):
        names = ["", "a.b.c", "with space", "ключ", "0", "state", "params"]
        optimizer = Adam({name: _param() for name in names})
        self.assertEqual(names_of(optimizer), [names])
        params = dict(zip(names, optimizer.param_groups[0]["params"]))
        for param in params.values():
            param.grad = torch.ones_like(param)
        optimizer.step()
        state_dict = saved(optimizer)
        self.assertEqual(list(state_dict["state"]), names)
        optimizer.load_state_dict(state_dict)
        self.assertEqual(list(optimizer.state_dict()["state"]), names)

    def test_a_str_subclass_is_a_str(self):
        class Name(str):
            __slots__ = ()

        optimizer = SGD([(Name("a"), _param())], lr=0.1)
        self.assertEqual(names_of(optimizer), [["a"]])

    def test_the_list_given_is_not_changed(self):
        p, q = _param(), _param()
        given = [("a", p), ("b", q)]
        mapping = {"a": p, "b": q}
        names = ["a", "b"]
        SGD(given, lr=0.1)
        SGD(mapping, lr=0.1)
        optimizer = SGD([{"params": [p, q], "param_names": names}], lr=0.1)
        self.assertEqual([name for name, _ in given], ["a", "b"])
        self.assertEqual(list(mapping), ["a", "b"])
        optimizer.add_param_group({"params": {"c": _param()}})
        optimizer.param_groups[0]["param_names"].append("d")
        self.assertEqual(names, ["a", "b"])

    def test_an_ordinary_load_warns_of_nothing(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            optimizer = SGD({"a": _param(), "b": _param()}, lr=0.1)
            optimizer.add_param_group({"params": {"c": _param()}})
            optimizer.load_state_dict(optimizer.state_dict())

    def test_a_long_list_of_clashes_is_cut(self):
        params = {f"p{i}": _param() for i in range(30)}
        optimizer = SGD(params, lr=0.1)
        with self.assertRaisesRegex(ValueError, r'"p0".*"p19" and 10 more'):
            optimizer.add_param_group({"params": {name: _param() for name in params}})

    def test_tied_parameters_in_a_module(self):
        module = torch.nn.ModuleDict({"a": torch.nn.Linear(3, 3, bias=False)})
        module["b"] = torch.nn.Linear(3, 3, bias=False)
        module["b"].weight = module["a"].weight
        optimizer = SGD(module.named_parameters(), lr=0.1, momentum=0.9)
        self.assertEqual(names_of(optimizer), [["a.weight"]])
        with self.assertWarnsRegex(UserWarning, "duplicate parameters"):
            optimizer = SGD(
                module.named_parameters(remove_duplicate=False), lr=0.1, momentum=0.9
            )
        self.assertEqual(names_of(optimizer), [["a.weight", "b.weight"]])
        before = values(dict(module.named_parameters()))
        module["a"].weight.grad = torch.ones(3, 3)
        optimizer.step()
        self.assertNotEqual(before["a.weight"], module["a"].weight)
        state_dict = optimizer.state_dict()
        self.assertEqual(list(state_dict["state"]), ["a.weight"])
        self.assertEqual(
            state_dict["param_groups"][0]["params"], ["a.weight", "a.weight"]
        )
        self.assertEqual(
            state_dict["param_groups"][0]["param_names"], ["a.weight", "b.weight"]
        )


instantiate_parametrized_tests(TestConstructionDetails)


if __name__ == "__main__":
    run_tests()
