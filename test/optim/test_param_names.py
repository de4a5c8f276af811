# Owner(s): ["module: optimizer"]

"""The functions behind names: on lists and dicts, without an optimizer."""

import copy
from operator import is_
from types import MappingProxyType

import torch
from _common import OptimTestCase
from _describe import describe
from torch.nn import Parameter
from torch.optim._param_names.flat import align_flat_state
from torch.optim._param_names.groups import (
    agreed_groups,
    copy_options,
    groups_differ,
    holders,
    same_groups,
)
from torch.optim._param_names.keys import (
    check_other_keys,
    group_names,
    is_named,
    pack,
    pack_state,
    param_keys,
)
from torch.optim._param_names.loading import build_state
from torch.optim._param_names.matching import Match, match_state_dict
from torch.optim._param_names.messages import load_error, prefix_hint, quote
from torch.optim._param_names.reading import (
    check_names,
    pairs_from_mapping,
    read_group,
)
from torch.optim._param_names.registry import (
    all_distinct,
    LARGE,
    Registry,
    registry_for,
)
from torch.optim._param_names.saved import check_form, saved_names
from torch.optim._param_names.shapes import fits
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


def _param(*shape: int) -> Parameter:
    return Parameter(torch.ones(shape or (2,)))


class TestReading(OptimTestCase):
    def test_pairs_from_mapping(self):
        p, q = _param(), _param()
        mapping = MappingProxyType({"b": p, "a": q})
        pairs = pairs_from_mapping(mapping)
        self.assertEqual([name for name, _ in pairs], ["b", "a"])
        self.assertIs(pairs[0][1], p)
        self.assertIs(pairs[1][1], q)
        self.assertEqual(pairs_from_mapping({}), [])

    def test_the_first_problem_is_named(self):
        with self.assertRaisesRegex(TypeError, "'b' is NoneType"):
            pairs_from_mapping({"a": _param(), "b": None, 3: _param()})
        with self.assertRaisesRegex(TypeError, "3 of type int"):
            pairs_from_mapping({"a": _param(), 3: _param(), "b": None})

    def test_long_names_are_cut_in_errors(self):
        with self.assertRaises(TypeError) as caught:
            pairs_from_mapping({b"x" * 1000: _param()})
        self.assertLess(len(str(caught.exception)), 200)

    def test_read_group(self):
        p, q = _param(), _param()
        group = {"params": [("a", p), ("b", q)], "lr": 1}
        read_group(group)
        self.assertEqual(list(group), ["params", "lr", "param_names"])
        self.assertEqual(group["param_names"], ["a", "b"])
        self.assertTrue(group["params"][0] is p and group["params"][1] is q)
        group = {"params": [p, q]}
        read_group(group)
        self.assertEqual(list(group), ["params"])
        group = {"params": []}
        read_group(group)
        self.assertEqual(group, {"params": []})
        group = {"params": [p], "param_names": ("a",)}
        read_group(group)
        self.assertEqual(group["param_names"], ["a"])

    def test_a_named_tuple_is_a_pair(self):
        class Pair(tuple):
            __slots__ = ()

        group = {"params": [Pair(("a", _param())), ("b", _param())]}
        read_group(group)
        self.assertEqual(group["param_names"], ["a", "b"])

    def test_check_names(self):
        given = ["a", "b"]
        names = check_names(given, 2)
        self.assertEqual(names, given)
        self.assertIsNot(names, given)
        self.assertEqual(check_names([], 0), [])
        for bad in ("ab", {"a": 1, "b": 2}, 5, None, ["a", None], ["a", b"b"]):
            with self.assertRaises(TypeError):
                check_names(bad, 2)
        with self.assertRaisesRegex(ValueError, "2 names for 3 param"):
            check_names(["a", "b"], 3)


class TestRegistry(OptimTestCase):
    def test_many_groups(self):
        registry = Registry()
        groups = [
            {"params": [_param()], "param_names": [f"p{index}"]} for index in range(5)
        ]
        for group in groups:
            self.assertIsNone(registry.problem(group))
            registry.add(group)
        self.assertRegex(
            registry.problem({"params": [_param()], "param_names": ["p3"]}), '"p3"'
        )
        self.assertRegex(registry.problem({"params": [_param()]}), "without names")

    def test_a_check_changes_nothing(self):
        registry = Registry()
        group = {"params": [_param()], "param_names": ["a"]}
        self.assertIsNone(registry.problem(group))
        self.assertIsNone(registry.problem({"params": [_param()]}))
        same_name = {"params": [_param()], "param_names": ["a"]}
        self.assertIsNone(registry.problem(same_name))
        registry.add(group)
        self.assertRegex(registry.problem(same_name), '"a"')

    def test_parameters_are_compared_by_identity(self):
        p = _param()
        registry = Registry([{"params": [p]}])
        other = {"params": [Parameter(p.detach().clone())]}
        self.assertIsNone(registry.problem(other))
        self.assertRegex(
            registry.problem({"params": [p]}), "more than one parameter group"
        )

    @parametrize("count", [3, LARGE])
    def test_all_distinct(self, count):
        # Equal, but not the same.
        params = [float(index % 2) for index in range(1, count)]
        params = [torch.tensor(value) for value in params]
        self.assertTrue(all_distinct(params))
        self.assertFalse(all_distinct([*params, params[0]]))
        self.assertTrue(all_distinct([*params, params[0].clone()]))

    def test_a_kept_registry(self):
        groups = [{"params": [_param()]}]
        new, kept = {"params": [_param()]}, Registry(groups)
        self.assertIs(registry_for(new, groups, kept), kept)
        for others in (
            [*groups, {"params": []}],
            [{"params": [_param()]}],
            [{"params": [_param(), *groups[0]["params"]]}],
        ):
            self.assertIsNot(registry_for(new, others, kept), kept)
        self.assertIsNone(registry_for(new, [], kept))
        groups[0]["params"].append(_param())
        self.assertIsNot(registry_for(new, groups, kept), kept)
        empty = Registry()
        self.assertIs(registry_for(new, [], empty), empty)

    def test_what_a_kept_registry_objects_to_is_looked_at(self):
        first = {"params": [_param()], "param_names": ["a"]}
        groups = [first, {"params": [_param()], "param_names": ["b"]}]
        kept = Registry(groups)
        new = {"params": first["params"], "param_names": ["a"]}
        with self.assertRaisesRegex(ValueError, "more than one parameter group"):
            registry_for(new, groups, kept)
        # An edit by hand that the kept one does not notice
        first.update(params=[_param()], param_names=["c"])
        registry = registry_for(new, groups, kept)
        self.assertIsNot(registry, kept)
        self.assertRegex(
            registry.problem({"params": [_param()], "param_names": ["c"]}), '"c"'
        )

    def test_each_group_is_read_a_few_times(self):
        # However many others there are: else many groups take quadratic time.
        class Counted(list):
            reads = 0

            def __iter__(self):
                Counted.reads += 1
                return super().__iter__()

        groups = [
            {"params": Counted([_param()]), "param_names": Counted([f"p{index}"])}
            for index in range(50)
        ]
        registry = Registry()
        for group in groups:
            self.assertIsNone(registry.problem(group))
            registry.add(group)
        self.assertLess(Counted.reads, 10 * len(groups))

    @parametrize("named", [True, False])
    def test_groups_that_are_there(self, named):
        a, b, c = _param(), _param(), _param()
        groups = [{"params": [a, b]}, {"params": []}]
        if named:
            groups[0]["param_names"] = ["a", "b"]
        registry = Registry(groups)
        new = {"params": [c], "param_names": ["c"]} if named else {"params": [c]}
        self.assertIs(registry_for(new, groups, registry), registry)
        self.assertIsNone(registry.problem({"params": []}))
        for params in ([a], [c, b]):
            names = {"param_names": ["x", "y"][: len(params)]} if named else {}
            self.assertRegex(
                registry.problem({"params": params, **names}),
                "more than one parameter group",
            )
        other_kind = {"params": [c]} if named else {**new, "param_names": ["c"]}
        self.assertRegex(registry.problem(other_kind), "with/without names")
        if named:
            same_name = {"params": [c], "param_names": ["b"]}
            self.assertRegex(registry.problem(same_name), 'named "b"')
        registry.add(new)
        self.assertEqual(groups[1].get("param_names"), [] if named else None)

    def test_groups_of_both_kinds(self):
        # As only somebody's edits by hand can leave them. No group goes with both.
        registry = Registry(
            [{"params": [_param()], "param_names": ["a"]}, {"params": [_param()]}]
        )
        for names in ({}, {"param_names": ["b"]}):
            group = {"params": [_param()], **names}
            self.assertRegex(registry.problem(group), "with/without names")

    def test_undecided_groups(self):
        empty, other = {"params": []}, {"params": []}
        registry = Registry([empty])
        self.assertNotIn("param_names", empty)
        registry.add({"params": [_param()], "param_names": ["a"]})
        self.assertEqual(empty["param_names"], [])
        self.assertIsNone(registry.problem(other))
        registry.add(other)
        self.assertEqual(other["param_names"], [])
        unnamed = Registry([{"params": [_param()]}])
        third = {"params": []}
        unnamed.add(third)
        self.assertNotIn("param_names", third)


class TestKeys(OptimTestCase):
    def test_is_named(self):
        named, unnamed = {"param_names": []}, {}
        self.assertTrue(is_named([named]))
        self.assertTrue(is_named([named, named]))
        for groups in ([], [unnamed], [named, unnamed], [unnamed, named]):
            self.assertFalse(is_named(groups))

    def test_group_names(self):
        p, q = _param(), _param()
        groups = [
            {"params": [p], "param_names": ["a"]},
            {"params": [q], "param_names": ["b"]},
        ]
        self.assertEqual(group_names(groups), [["a"], ["b"]])
        groups[1]["param_names"] = ["a"]
        with self.assertRaisesRegex(ValueError, '"a"'):
            group_names(groups)
        groups[1]["params"] = [p]
        self.assertEqual(group_names(groups), [["a"], ["a"]])
        groups[1]["param_names"] = ["a", "b"]
        with self.assertRaisesRegex(ValueError, "param group 1.*2 names for 1"):
            group_names(groups)

    def test_param_keys(self):
        p, q, r = _param(), _param(), _param()
        groups = [
            {"params": [p, q, p], "param_names": ["a", "b", "c"]},
            {"params": [r, q], "param_names": ["d", "e"]},
        ]
        self.assertEqual(param_keys(groups), {id(p): "a", id(q): "b", id(r): "d"})
        for group in groups:
            del group["param_names"]
        # Indices as releases without names give them.
        self.assertEqual(param_keys(groups), {id(p): 2, id(q): 1, id(r): 3})
        self.assertEqual(param_keys([]), {})

    def test_pack_state(self):
        p, q = _param(), _param()
        state = {q: {"x": 1}, "other": 5, p: {"x": 2}}
        packed = pack_state(state, {id(p): "a", id(q): "b"})
        self.assertEqual(list(packed), ["b", "other", "a"])
        self.assertIs(packed["a"], state[p])
        with self.assertRaisesRegex(ValueError, '"other"'):
            pack_state(state, {id(p): "a", id(q): "other"})
        with self.assertRaisesRegex(KeyError, r"\(7, 3\)"):
            pack_state({**state, _param(7, 3): {}}, {id(p): "a", id(q): "b"})
        self.assertEqual(pack_state({p: 1, "0": 2}, {id(p): 0}), {0: 1, "0": 2})

    def test_names_are_unique_in_packed_state(self):
        a, b = _param(), _param()
        groups = [{"params": [a], "param_names": ["x"]}]
        groups.append({"params": [b], "param_names": ["x"]})
        for state in ({}, {a: 1}, {a: 1, b: 2}, {b: 1, a: 2}, {a: 1, "other": 2}):
            with self.assertRaisesRegex(ValueError, 'parameter .* named "x"'):
                pack(groups, state)
        groups[1]["params"] = [a]
        packed_state, packed = pack(groups, {a: 1})
        self.assertEqual([group["params"] for group in packed], [["x"], ["x"]])
        self.assertEqual(packed_state, {"x": 1})

    @parametrize("named", [True, False])
    def test_pack(self, named):
        a, b, c = _param(), _param(), _param()
        groups = [{"lr": 1, "params": (a, b), "x": [2]}, {"params": []}]
        groups.append({"params": [c]})
        keys = ["a", "b", "c"] if named else [0, 1, 2]
        if named:
            for group, names in zip(groups, (["a", "b"], [], ["c"])):
                group["param_names"] = names
        before = describe(groups)
        for order in ("abc", "cab", "ba", "", "ab2"):
            own = {"a": a, "b": b, "c": c, "2": "other"}
            stand_for = {**dict(zip("abc", keys)), "2": "other"}
            state = {own[letter]: {"of": letter} for letter in order}
            packed_state, packed = pack(groups, state)
            self.assertEqual(list(packed_state), [stand_for[i] for i in order])
            for letter in order:
                self.assertIs(packed_state[stand_for[letter]], state[own[letter]])
            self.assertEqual([g["params"] for g in packed], [keys[:2], [], keys[2:]])
            self.assertEqual(list(packed[0])[-1], "params")
            self.assertIs(packed[0]["x"], groups[0]["x"])
        self.assert_still(groups, before)

    def test_check_other_keys(self):
        check_other_keys([0, "x", ("a",)], {"a", "b"})
        with self.assertRaisesRegex(ValueError, '"a", "b"'):
            check_other_keys(["a", "x", "b"], {"a", "b"})


class TestSaved(OptimTestCase):
    @parametrize(
        "groups,names,named",
        [
            subtest(([{"params": [0, 1]}], None, False), "indexed"),
            subtest(([{"params": []}], None, False), "empty"),
            subtest(([], None, False), "no_groups"),
            subtest(([{"params": ["a", "b"]}], [["a", "b"]], True), "named"),
            subtest(
                ([{"params": ["a"]}, {"params": []}], [["a"], []], True), "named_empty"
            ),
            subtest(
                ([{"params": ["a"], "param_names": ["b"]}], [["a"]], True),
                "params_decide",
            ),
            subtest(
                ([{"params": [4, 7], "param_names": ["a", "b"]}], [["a", "b"]], False),
                "annotated",
            ),
            subtest(
                (
                    [
                        {"params": [0], "param_names": ["a"]},
                        {"params": [], "param_names": []},
                    ],
                    [["a"], []],
                    False,
                ),
                "annotated_empty",
            ),
            subtest(
                ([{"params": [0, 0], "param_names": ["a", "b"]}], [["a", "b"]], False),
                "annotated_tied",
            ),
            subtest(
                ([{"params": [(0, 1)], "param_names": ["a"]}], [["a"]], False),
                "any_ids",
            ),
        ],
    )
    def test_kinds(self, groups, names, named):
        saved = saved_names(groups)
        self.assertEqual(saved.groups, names)
        self.assertEqual(saved.named, named)
        self.assertIsNone(saved.problem)

    @parametrize(
        "groups,words",
        [
            subtest(
                ([{"params": [0], "param_names": ["a"]}, {"params": [1]}], "group 1"),
                "missing",
            ),
            subtest(
                ([{"params": [0]}, {"params": [], "param_names": []}], "group 0"),
                "missing_first",
            ),
            subtest(([{"params": [0], "param_names": []}], "group 0"), "short"),
            subtest(([{"params": [0], "param_names": [1]}], "group 0"), "ints"),
            subtest(([{"params": [0, 1], "param_names": ["a", "a"]}], '"a"'), "twice"),
            subtest(
                (
                    [
                        {"params": [0], "param_names": ["a"]},
                        {"params": [1], "param_names": ["a"]},
                    ],
                    '"a"',
                ),
                "twice_in_two_groups",
            ),
        ],
    )
    def test_unusable(self, groups, words):
        saved = saved_names(groups)
        self.assertIsNone(saved.groups)
        self.assertFalse(saved.named)
        self.assertIn(words, saved.problem)

    def test_mixed_ids(self):
        with self.assertRaisesRegex(ValueError, "1 of 3 are of type str"):
            saved_names([{"params": [0, 1]}, {"params": ["a"]}])

    @parametrize(
        "groups,state,kind,words",
        [
            subtest(([], [], TypeError, "'state'"), "state"),
            subtest(({}, {}, TypeError, "'param_groups'"), "groups"),
            subtest((None, {}, TypeError, "NoneType"), "none"),
            subtest(([{"params": []}, 3], {}, TypeError, "group 1"), "group"),
            subtest(([{}], {}, KeyError, "group 0"), "no_params"),
            subtest(([{"params": {0: 1}}], {}, TypeError, "group 0"), "params"),
            subtest(([{"params": [[]]}], {}, TypeError, "type list"), "id"),
        ],
    )
    def test_check_form(self, groups, state, kind, words):
        with self.assertRaisesRegex(kind, words):
            check_form(groups, state)

    def test_good_form(self):
        check_form([{"params": (0, "a", (1, 2))}], {})
        check_form((), MappingProxyType({}))


class TestGroups(OptimTestCase):
    def _sides(self, ours, theirs):
        """Groups of parameters and ids, of a letter each."""
        params = {name: _param() for name in "".join(ours)}
        groups = [{"params": [params[name] for name in names]} for names in ours]
        saved_groups = [{"params": list(names)} for names in theirs]
        saved_in = {name: i for i, names in enumerate(theirs) for name in names}
        saved_ids = {params[name]: name for name in params if name in saved_in}
        return groups, saved_groups, saved_ids, saved_in

    @parametrize(
        "ours,theirs,order",
        [
            subtest((["ab"], ["ba"], [0]), "one"),
            subtest((["ab", "c"], ["c", "ab"], [1, 0]), "swapped"),
            subtest((["a", "", "b", ""], ["", "b", "", "a"], [3, 0, 1, 2]), "empty"),
            subtest((["a"], ["a", ""], None), "one_less"),
            subtest((["ab", ""], ["a", "b"], None), "split"),
            subtest((["a", "b"], ["ab", ""], None), "merged"),
            subtest((["ab", "c"], ["a", "bc"], None), "moved"),
            # What only one side has is another problem.
            subtest((["ax", "b"], ["b", "a"], [1, 0]), "more_here"),
            subtest((["a", "b"], ["b", "ax"], [1, 0]), "more_there"),
        ],
    )
    def test_same_groups(self, ours, theirs, order):
        saved_in = {name: i for i, names in enumerate(theirs) for name in names}
        ids = [[name for name in names if name in saved_in] for names in ours]
        self.assertEqual(same_groups(ids, len(theirs), saved_in), order)

    def test_groups_differ_is_cut(self):
        letters = "abcdefghijklmno"
        groups, saved_groups, saved_ids, saved_in = self._sides(
            list(letters), [letters]
        )
        text = groups_differ(groups, list(letters), saved_groups, saved_ids, saved_in)
        self.assertIn("has 15 param group(s), the state_dict 1.", text)
        self.assertIn("param group 9 of the optimizer", text)
        self.assertNotIn("param group 10 of the optimizer", text)
        self.assertTrue(text.endswith("And so on."))

    def test_copy_options(self):
        shared = [1]
        ids, names = [0], ["a"]
        saved = [{"params": ids, "param_names": names, "x": shared, "y": shared}]
        (copied,) = copy_options(saved)
        self.assertEqual(copied, saved[0])
        self.assertIsNot(copied, saved[0])
        self.assertIsNot(copied["x"], shared)
        # As deepcopy does, it keeps what is shared shared.
        self.assertIs(copied["x"], copied["y"])

    def test_holders(self):
        groups = [{"params": ["a", "b"], "x": 1}, {"params": ["b", "c"], "x": 2}]
        found = holders(groups, {"a", "b", "c"})
        self.assertEqual(
            {key: found[key][0]["x"] for key in found}, {"a": 1, "b": 1, "c": 2}
        )
        for key, (group,) in found.items():
            self.assertIn(key, group["params"])
        self.assertIs(found["a"], found["b"])
        (only,) = holders(groups[:1], {"a", "b"})["a"]
        self.assertEqual(only, {"params": {"a", "b"}, "x": 1})

    def test_agreed_groups(self):
        groups, saved_groups, saved_ids, saved_in = self._sides(
            ["ab", "cx", "y"], ["a", "bc", "z"]
        )
        for group, lr in zip(groups, (1, 2, 3)):
            group["lr"] = lr
        for group, lr in zip(saved_groups, (10, 20, 30)):
            group.update(lr=lr, same=[7], param_names=["?"])
        saved_groups[1]["only"] = 1
        before = describe((groups, saved_groups))
        new = agreed_groups(groups, saved_groups, saved_ids, saved_in)
        self.assertEqual([group["lr"] for group in new], [1, 20, 3])
        self.assertEqual([group.get("same") for group in new], [[7], [7], None])
        self.assertEqual([group.get("only") for group in new], [None, 1, None])
        self.assertTrue(all("param_names" not in group for group in new))
        for group, own in zip(new, groups):
            self.assertIs(group["params"], own["params"])
        self.assertIsNot(new[0]["same"], new[1]["same"])
        self.assert_still((groups, saved_groups), before)

    @parametrize(
        "one,other,agree",
        [
            subtest((1, 1.0, True), "numbers"),
            subtest(((0.9, 0.99), (0.9, 0.99), True), "tuples"),
            subtest(((0.9, 0.99), [0.9, 0.99], False), "tuple_and_list"),
            subtest(((0.9,), (0.9, 0.99), False), "lengths"),
            subtest((torch.ones(2), torch.ones(2), True), "tensors"),
            subtest((torch.ones(2), torch.zeros(2), False), "other_tensors"),
            subtest((torch.ones(2), 1.0, False), "tensor_and_number"),
            subtest(([torch.ones(2)], [torch.ones(2)], True), "list_of_tensors"),
            subtest((None, 0, False), "none"),
        ],
    )
    def test_agreement(self, one, other, agree):
        groups, saved_groups, saved_ids, saved_in = self._sides(["ab"], ["a", "b"])
        groups[0]["x"] = "own"
        saved_groups[0]["x"], saved_groups[1]["x"] = one, other
        (group,) = agreed_groups(groups, saved_groups, saved_ids, saved_in)
        self.assert_same(group["x"], one if agree else "own")


class TestMatching(OptimTestCase):
    def _match(self, ours, theirs, state=(), **kwargs):
        params = {name: _param() for names in ours for name in names}
        groups = [
            {
                "params": [params[name] for name in names],
                "param_names": list(names),
                "lr": 1,
            }
            for names in ours
        ]
        saved_groups = [{"params": list(names), "lr": 2} for names in theirs]
        state = {name: {} for name in state}
        before = describe((groups, saved_groups, state))
        try:
            return match_state_dict(groups, saved_groups, state, **kwargs), params
        finally:
            self.assert_still((groups, saved_groups, state), before)

    def test_by_name(self):
        match, params = self._match(["ab", "c"], ["c", "ba"], "abc")
        self.assertTrue(match.by_name)
        self.assertEqual(match.params, params)
        self.assertEqual(
            (match.missing, match.unexpected, match.warnings), ([], [], [])
        )
        self.assertEqual(
            [group["param_names"] for group in match.groups], [["a", "b"], ["c"]]
        )
        self.assertEqual([group["lr"] for group in match.groups], [2, 2])

    def test_twice_there(self):
        with self.assertRaisesRegex(ValueError, 'Missing key.*"b"'):
            self._match(["ab"], ["aa"], "a")

    def test_tied_here(self):
        param = _param()
        groups = [{"params": [param, param], "param_names": ["a", "b"]}]
        with self.assertRaisesRegex(ValueError, 'Saved apart.*"b"'):
            match_state_dict(groups, [{"params": ["a", "b"]}], {"a": {}, "b": {}})

    def test_by_position(self):
        match, params = self._match(["ab", "c"], [[7, 5], [0]])
        self.assertFalse(match.by_name)
        self.assertEqual(match.params, {7: params["a"], 5: params["b"], 0: params["c"]})

    @parametrize("named", [True, False])
    def test_state_in_order(self, named):
        """It is taken as it comes, and no parameter is looked up by its id."""
        params = [_param(), _param()]
        groups = [{"params": [param]} for param in params]
        if named:
            groups = [{**g, "param_names": [n]} for g, n in zip(groups, "ab")]
        tensor = torch.ones(2)
        for ids, keys, expected in (
            ([0, 1], [0, 1], True),
            ([7, 3], [7, 3], True),
            ([0, 1], [1, 0], False),
            ([0, 1], [0], False),
            ([0, 1], [0, 1, "other"], False),
            ([1, 1], [1, 0], False),
            ([False, 1], [0, 1], False),
            ([0, 1], [tensor, 1], False),
            *(() if named else [([tensor, 1], [tensor, 1], False)]),
            *(() if named else [([tensor, 1], [0, 1], False)]),
        ):
            state = {key: {} for key in keys}
            saved_groups = [{"params": [param_id]} for param_id in ids]
            match = match_state_dict(groups, saved_groups, state)
            self.assertIs(match.in_order, state if expected else None)
            self.assertEqual("params" not in vars(match), expected)
            self.assertTrue(all(map(is_, match.ids, ids)))
            self.assertTrue(all(map(is_, match.own, params)))

    def test_missing_and_unexpected(self):
        match, params = self._match(["ab"], ["bc"], strict=False)
        self.assertEqual((match.missing, match.unexpected), (["a"], ["c"]))
        self.assertEqual(match.params, {"b": params["b"]})
        with self.assertRaisesRegex(ValueError, "for Mine:"):
            self._match(["ab"], ["bc"], owner="Mine")


class TestLoading(OptimTestCase):
    def _match(self, param, **kwargs):
        groups = [{"params": [param], "param_names": ["a"]}]
        sources = [{"params": ["a"], "lr": 2}]
        return Match(["a"], [param], groups, sources, **{"named": True, **kwargs})

    def test_build_state(self):
        param, other, calls = _param(), {"x": 1}, []

        def cast(*args, **kwargs):
            calls.append((args, kwargs))
            return "cast"

        match = self._match(param, ignored=["b"])
        saved_state = {"a": {"m": 1}, "b": {"m": 2}, "other": other, 3: "four"}
        state = build_state(saved_state, match, cast)
        self.assertEqual(list(state), [param, "other", 3])
        self.assertEqual(list(state.values()), ["cast", other, "four"])
        self.assertIsNot(state["other"], other)
        self.assertEqual(state["new"], {})
        (((_, value, key, group), _),) = calls
        self.assertIs(value, saved_state["a"])
        self.assertEqual(key, "a")
        self.assertEqual([(list(g["params"]), g["lr"]) for g in group], [(["a"], 2)])

    @parametrize("named", [True, False])
    def test_errors_of_casts(self, named):
        def cast(*args, **kwargs):
            raise ArithmeticError("no")

        match = self._match(_param(), named=named)
        expected = (
            (ValueError, 'in loading state_dict for Foo:.*"a".*ArithmeticError: no')
            if named
            else (ArithmeticError, "^no$")
        )
        with self.assertRaisesRegex(expected[0], "(?s)" + expected[1]):
            build_state({"a": {}}, match, cast, "Foo")

    def test_shapes(self):
        param = torch.zeros(2, 3)
        match = self._match(param, param_shaped=("m", "v"))
        good = {"m": torch.ones(2, 3), "v": None, "row": torch.ones(2), "step": 1}
        self.assertTrue(fits(good, param, ("m", "v")))
        self.assertTrue(fits(MappingProxyType(good), param, ("m", "v")))
        build_state({"a": good}, match, lambda *args, **kwargs: {})
        for bad in ({"m": torch.ones(3, 2)}, {"m": torch.ones(2, 3), "v": 1}, []):
            self.assertFalse(fits(bad, param, ("m", "v")))
            self.assertTrue(fits(bad, param, ()) or bad == [])
            with self.assertRaisesRegex(ValueError, 'The state of "a" '):
                build_state({"a": bad}, match, lambda *args, **kwargs: {})


class TestFlat(OptimTestCase):
    def _align(self, order, state, saved="abc"):
        params = {"a": _param(2), "b": _param(1), "c": Parameter(torch.ones(1) * 1j)}
        common = {name: params[name] for name in saved if name in order}
        return align_flat_state(
            state,
            [{"params": list(saved)}],
            Match(
                list(common),
                list(common.values()),
                [],
                [],
                named=True,
                missing=[name for name in order if name not in saved],
                unexpected=[name for name in saved if name not in order],
            ),
            [params[name] for name in order],
            flat=("d", "dirs"),
            owner="LBFGS",
        )

    def test_permuted(self):
        flat = torch.arange(5.0)
        state = {"a": {"d": flat, "dirs": [flat, flat + 10], "n": 3}, "other": 1}
        before = describe(state)
        aligned = self._align("cab", state)
        self.assert_still(state, before)
        self.assertEqual(list(aligned), ["other", "c"])
        self.assertEqual(aligned["c"]["d"], torch.tensor([3.0, 4, 0, 1, 2]))
        self.assertEqual(aligned["c"]["dirs"][1], torch.tensor([13.0, 14, 10, 11, 12]))
        self.assertEqual(aligned["c"]["n"], 3)
        # The first parameter stays the first.
        aligned = self._align("acb", state)
        self.assertEqual(aligned["a"]["d"], torch.tensor([0.0, 1, 3, 4, 2]))

    def test_in_order(self):
        state = {"a": {"d": torch.arange(7.0)}}
        self.assertEqual(self._align("abc", state), state)

    def test_refused(self):
        state = {"a": {"d": torch.arange(5.0)}}
        for order, saved in (("ab", "abc"), ("abc", "ab"), ("abc", "abcx")):
            different = sorted(set(order) ^ set(saved))[-1]
            with self.assertRaisesRegex(ValueError, f'same parameters.*"{different}"'):
                self._align(order, state, saved)
        with self.assertRaisesRegex(ValueError, '"d".*5 elements'):
            self._align("bca", {"a": {"d": torch.arange(6.0)}})
        with self.assertRaisesRegex(ValueError, '"mine"'):
            self._align("bca", {"a": {"mine": torch.arange(5.0)}})


class TestMessages(OptimTestCase):
    def test_quote(self):
        self.assertEqual(quote(["a", "b"]), '"a", "b"')
        self.assertEqual(quote([]), "")
        self.assertEqual(quote("abc", 2), '"a", "b" and 1 more')
        self.assertEqual(quote("ab", 2), '"a", "b"')
        self.assertEqual(quote(iter("abc"), 1), '"a" and 2 more')

    def test_load_error(self):
        self.assertEqual(
            load_error("SGD", ["One.", "Two."]),
            "Error(s) in loading state_dict for SGD:\n\tOne.\n\tTwo.",
        )

    @parametrize(
        "ours,theirs,words",
        [
            subtest((["a.b"], ["module.a.b"], ["state_dict", '"module."']), "there"),
            subtest((["x.y.a"], ["a"], ["optimizer", '"x.y."']), "here"),
            subtest(
                (["f.w"], ["f._orig_mod.w"], ["contain", '"_orig_mod."']), "inside"
            ),
            subtest((["q", "a"], ["z", "m.a"], ["state_dict", '"m."']), "not_all"),
            subtest((["a"], ["b"], None), "none"),
            subtest((["a"], [], None), "one_side"),
            subtest((["ba"], ["a"], None), "no_dot"),
        ],
    )
    def test_prefix_hint(self, ours, theirs, words):
        hint = prefix_hint(ours, theirs)
        if words is None:
            self.assertIsNone(hint)
        else:
            for word in words:
                self.assertIn(word, hint)

    def test_messages_are_quick_with_many_names(self):
        names = [f"layer.{i}.weight" for i in range(100_000)]
        self.assertIn("99980 more", quote(names))
        prefix_hint(names, copy.copy(names))


for case in (
    TestReading,
    TestRegistry,
    TestKeys,
    TestSaved,
    TestGroups,
    TestLoading,
    TestMatching,
    TestFlat,
    TestMessages,
):
    instantiate_parametrized_tests(case)
del case


if __name__ == "__main__":
    run_tests()
