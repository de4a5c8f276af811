# Owner(s): ["module: optimizer"]

"""Translate state dicts for those who have names of their own for parameters."""

import copy
from typing import Any

from _common import OptimTestCase

import torch
from torch.nn import Parameter
from torch.optim import rename_parameters
from torch.optim._param_names.consumers.rekeying import (
    align_names,
    name_indices,
    state_keys,
    to_indices,
    to_own_names,
)
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


def _groups() -> list[dict[str, Any]]:
    p, q, r = (Parameter(torch.ones(1)) for _ in range(3))
    return [
        {"params": [p, q], "param_names": ["p", "q"]},
        {"params": [r], "param_names": ["r"]},
    ]


#: Groups and parameters are in another order than those of the optimizer.
NAMED = {
    "state": {"q": {"s": 1}, "r": {"s": 2}, "epoch": 3},
    "param_groups": [
        {"params": ["r"], "param_names": ["r"], "lr": 1},
        {"params": ["q", "p"], "param_names": ["q", "p"], "lr": 2},
    ],
}
ANNOTATED = {
    "state": {1: {"s": 1}, 0: {"s": 2}, "epoch": 3},
    "param_groups": [
        {"params": [0], "param_names": ["r"], "lr": 1},
        {"params": [1, 2], "param_names": ["q", "p"], "lr": 2},
    ],
}


class TestToIndices(OptimTestCase):
    @parametrize(
        "saved", [subtest(NAMED, name="named"), subtest(ANNOTATED, name="annotated")]
    )
    def test_by_name(self, saved: dict[str, Any]):
        before = copy.deepcopy(saved)
        found = to_indices(saved, _groups())
        self.assertEqual(saved, before)
        self.assertEqual(
            found,
            {
                "state": {1: {"s": 1}, 2: {"s": 2}, "epoch": 3},
                "param_groups": [
                    {"params": [2], "param_names": ["r"], "lr": 1},
                    {"params": [1, 0], "param_names": ["q", "p"], "lr": 2},
                ],
            },
        )

    def test_params_decide_in_a_named_dict(self):
        saved = copy.deepcopy(NAMED)
        saved["param_groups"][1]["param_names"] = ["x"]
        found = to_indices(saved, _groups())
        self.assertEqual(found["param_groups"][1]["param_names"], ["q", "p"])

    def test_without_groups(self):
        found = to_indices({"state": {"r": 1, 0: 2, "epoch": 3}}, _groups())
        self.assertEqual(found, {"state": {2: 1, 0: 2, "epoch": 3}})

    def test_two_names_of_one_parameter(self):
        groups = _groups()
        p = groups[0]["params"][0]
        groups[0] = {"params": [p, p], "param_names": ["p", "tied"]}
        saved = {
            "state": {"p": 1, "r": 2},
            "param_groups": [{"params": ["r"]}, {"params": ["p", "p"]}],
        }
        found = to_indices(saved, groups)
        self.assertEqual(found["state"], {1: 1, 2: 2})
        self.assertEqual(found["param_groups"][1]["params"], [1, 1])

    def test_what_stays(self):
        """Names of others, and dicts and optimizers without names."""
        indexed = copy.deepcopy(ANNOTATED)
        for group in indexed["param_groups"]:
            del group["param_names"]
        others = copy.deepcopy(NAMED)
        others["param_groups"][0]["params"] = ["module.r"]
        for saved in (indexed, others):
            self.assertIs(to_indices(saved, _groups()), saved)
        wrapped = copy.deepcopy(ANNOTATED)
        for group in wrapped["param_groups"]:
            group["param_names"] = [f"module.{n}" for n in group["param_names"]]
        self.assertIs(to_indices(wrapped, _groups()), wrapped)
        unnamed = [{"params": group["params"]} for group in _groups()]
        self.assertIs(to_indices(NAMED, unnamed), NAMED)

    def test_some_names_are_others(self):
        saved = copy.deepcopy(ANNOTATED)
        saved["param_groups"][0]["param_names"] = ["module.r"]
        with self.assertRaisesRegex(ValueError, 'no parameter named "module.r"'):
            to_indices(saved, _groups())


class TestToOwnNames(OptimTestCase):
    # Two of the saved parameters are one in the optimizer
    names = {"c": "own.c", "a": "own.ab", "b": "own.ab"}

    def test_names_and_order(self):
        saved = {
            "state": {"b": 1, "c": 2, "epoch": 3},
            "param_groups": [
                {"params": ["a", "new", "b", "c"], "param_names": ["x"], "lr": 1},
                {"params": [], "lr": 2},
            ],
        }
        before = copy.deepcopy(saved)
        found = to_own_names(saved, self.names)
        self.assertEqual(saved, before)
        self.assertEqual(found["state"], {"own.ab": 1, "own.c": 2, "epoch": 3})
        names = ["own.c", "own.ab", "new"]
        self.assertEqual(
            found["param_groups"],
            [
                {"params": names, "param_names": names, "lr": 1},
                {"params": [], "param_names": [], "lr": 2},
            ],
        )
        first = found["param_groups"][0]
        self.assertIsNot(first["params"], first["param_names"])

    def test_without_groups(self):
        self.assertEqual(
            to_own_names({"state": {"a": 1}}, self.names), {"state": {"own.ab": 1}}
        )

    @parametrize("where", ["state", "params"])
    def test_name_of_another_parameter(self, where: str):
        taken = "own.c"
        saved = {
            "state": {taken: 1} if where == "state" else {},
            "param_groups": [{"params": ["a", taken] if where == "params" else ["a"]}],
        }
        with self.assertRaisesRegex(ValueError, f'has "{taken}", which is not'):
            to_own_names(saved, self.names)

    def test_own_name_that_is_an_fqn(self):
        """Exchanged names are no reason for an error: all are translated."""
        saved = {"state": {"a": 1, "b": 2}, "param_groups": [{"params": ["a", "b"]}]}
        found = to_own_names(saved, {"a": "b", "b": "a"})
        self.assertEqual(found["state"], {"b": 1, "a": 2})


class TestNamesBesideIds(OptimTestCase):
    def test_align_names(self):
        groups = [{"params": ["b", "a"], "param_names": ["x"]}, {"params": ["c"]}]
        align_names(groups)
        self.assertEqual(groups[0]["param_names"], ["b", "a"])
        self.assertIsNot(groups[0]["param_names"], groups[0]["params"])
        self.assertEqual(groups[1], {"params": ["c"]})
        groups = [{"params": [2, 0], "param_names": ["x"]}]
        align_names(groups, {0: "a", 2: "c"})
        self.assertEqual(groups, [{"params": [2, 0], "param_names": ["c", "a"]}])

    def test_name_indices(self):
        saved = [{"params": [2, 0]}, {"params": [1], "param_names": ["x"]}]
        before = copy.deepcopy(saved)
        name_indices(saved, [{"params": group["params"]} for group in _groups()])
        self.assertEqual(saved, before)
        name_indices(saved, _groups())
        self.assertEqual([g["param_names"] for g in saved], [["r", "p"], ["q"]])

    def test_state_keys(self):
        self.assertEqual(state_keys(NAMED), ["q", "r", "epoch"])
        empty = {**NAMED, "state": {}}
        self.assertEqual(state_keys(empty), ["r", "q", "p"])
        indexed = {"state": {}, "param_groups": [{"params": [0, 1]}]}
        self.assertEqual(state_keys(indexed), [])
        self.assertEqual(state_keys({"state": {}}), [])


def _indexed() -> dict[str, Any]:
    groups = [{"params": [0], "lr": 1}, {"params": [1, 2], "lr": 2}]
    return {"state": {1: {"s": 1}, 0: {"s": 2}, "epoch": 3}, "param_groups": groups}


class TestRename(OptimTestCase):
    """``torch.optim.rename_parameters()``."""

    @parametrize(
        "rename",
        [
            subtest({"r": "x.r", "q": "x.q", "p": "x.p"}, "mapping"),
            subtest(lambda name: f"x.{name}", "function"),
        ],
    )
    def test_named(self, rename):
        before = copy.deepcopy(NAMED)
        found = rename_parameters(NAMED, rename)
        self.assertEqual(NAMED, before)
        self.assertEqual(found["state"], {"x.q": {"s": 1}, "x.r": {"s": 2}, "epoch": 3})
        names = [["x.r"], ["x.q", "x.p"]]
        self.assertEqual([g["params"] for g in found["param_groups"]], names)
        self.assertEqual([g["param_names"] for g in found["param_groups"]], names)
        self.assertEqual([g["lr"] for g in found["param_groups"]], [1, 2])

    def test_annotated(self):
        # An entry under a name is not that of the parameter, which is under its id.
        saved = {**ANNOTATED, "state": {**ANNOTATED["state"], "r": 4}}
        found = rename_parameters(saved, {"r": "x"})
        self.assertEqual(found["state"], saved["state"])
        self.assertEqual([g["params"] for g in found["param_groups"]], [[0], [1, 2]])
        self.assertEqual(
            [g["param_names"] for g in found["param_groups"]], [["x"], ["q", "p"]]
        )

    @parametrize("names", [["r", "q", "p"], {2: "p", 0: "r", 1: "q"}])
    def test_indexed(self, names):
        self.assertEqual(rename_parameters(_indexed(), names), NAMED)

    def test_other_names_of_tied_parameters(self):
        groups = [{"params": ["p", "p"], "param_names": ["p", "tied"]}]
        found = rename_parameters(
            {"state": {"p": 1}, "param_groups": groups}, {"p": "x"}
        )
        self.assertEqual(found["state"], {"x": 1})
        self.assertEqual(
            found["param_groups"],
            [{"params": ["x", "x"], "param_names": ["x", "tied"]}],
        )

    @parametrize(
        "state_dict,rename,kind,words",
        [
            subtest((NAMED, {"r": "q"}, ValueError, 'named "q" after'), "clash"),
            subtest((NAMED, {"r": 1}, TypeError, '"r" should be of type str'), "type"),
            subtest((NAMED, {"r": "epoch"}, ValueError, '"epoch".*rename'), "other"),
            subtest((NAMED, ["a", "b", "c"], TypeError, "mapping from them"), "list"),
            subtest((_indexed(), ["a"], ValueError, "1 names for 3"), "too_few"),
            subtest((_indexed(), {0: "a"}, ValueError, "only one of the two: 1"), "id"),
            subtest((_indexed(), "abc", TypeError, "but got str"), "one_str"),
            subtest((_indexed(), str.upper, ValueError, "no parameter names"), "names"),
            subtest(({"state": {}}, {}, KeyError, "no 'param_groups'"), "no_groups"),
            subtest((3, {}, TypeError, "dict-like"), "no_dict"),
        ],
    )
    def test_errors(self, state_dict, rename, kind, words):
        with self.assertRaisesRegex(kind, words):
            rename_parameters(state_dict, rename)

    def test_why_names_cannot_be_used(self):
        damaged = copy.deepcopy(ANNOTATED)
        damaged["param_groups"][1]["param_names"] = ["q"]
        with self.assertRaisesRegex(ValueError, "group 1.*1 names for 2.*a list"):
            rename_parameters(damaged, str.upper)


instantiate_parametrized_tests(TestRename)
instantiate_parametrized_tests(TestToIndices)
instantiate_parametrized_tests(TestToOwnNames)


if __name__ == "__main__":
    run_tests()
