# Owner(s): ["oncall: distributed"]
"""ZeroRedundancyOptimizer with parameter names."""

import io
import itertools
import re
import tempfile
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any


from _distributed import GlooContinuousTestCase, join  # usort: skip

from _common import (
    annotated,
    build,
    GROUPED,
    in_groups,
    indexed,
    make_params,
    names_of,
    OptimTestCase,
    options_by_name,
    set_values,
    shuffled,
    snapshot,
    STATEFUL,
    swapped,
    train,
    values,
    without_names,
)

import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.testing._internal.common_optimizers import optim_db, OptimizerInfo
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


INFOS = {info.name: info for info in optim_db}
ADAMW = INFOS["AdamW"]

#: All but SparseAdam, whose gradients ZeroRedundancyOptimizer does not take.
DENSE = [info for info in GROUPED if not info.only_supports_sparse_grads]


def zero(info: OptimizerInfo, params: Any, **kwargs: Any) -> ZeroRedundancyOptimizer:
    """Build a sharded optimizer with options with which it has state."""
    options = {**STATEFUL.get(info.name, {}), **kwargs}
    return ZeroRedundancyOptimizer(params, info.optim_cls, **options)


def consolidated(optimizer: ZeroRedundancyOptimizer) -> dict[str, Any]:
    """The state dict of all ranks, on each of them, after ``torch.save``."""
    file = io.BytesIO()
    for rank in range(optimizer.world_size):
        optimizer.consolidate_state_dict(to=rank)
        if rank == optimizer.rank:
            torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def params_alone(state_dict: dict[str, Any]) -> dict[str, Any]:
    """The same named state dict without ``param_names``."""
    for group in state_dict["param_groups"]:
        del group["param_names"]
    return state_dict


def groups_by_key(state_dict: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The param groups with their keys in alphabetical order."""
    return [dict(sorted(group.items())) for group in state_dict["param_groups"]]


class ZeroTestCase(OptimTestCase):
    """Compares optimizers, sharded or not, with each other."""

    def assert_same_state_dict(
        self, one: Mapping[str, Any], other: Mapping[str, Any], about: str = ""
    ) -> None:
        """Both state dicts are the same, but for the order of a group's options."""
        self.assert_same(one["state"], other["state"], about)
        self.assert_same(groups_by_key(one), groups_by_key(other), about)

    def assert_continues(
        self,
        info: OptimizerInfo,
        one: tuple[Optimizer, Mapping[str, Parameter]],
        other: tuple[Optimizer, Mapping[str, Parameter]],
    ) -> None:
        """Further steps change the parameters of both in the same way."""
        for optimizer, params in (one, other):
            train(info, optimizer, params, range(10, 13))
        found = values(other[1])
        self.assert_same(
            values(one[1]), {name: found[name] for name in one[1]}, info.name
        )

    def shard_of(self, optimizer: ZeroRedundancyOptimizer) -> Any:
        """All that a failed call must leave as it was."""
        return snapshot(optimizer.optim), [
            (list(map(id, g["params"])), {k: v for k, v in g.items() if k != "params"})
            for g in optimizer.param_groups
        ]

    def assert_names_go_with_params(
        self,
        optimizer: ZeroRedundancyOptimizer,
        params: Mapping[str, Parameter],
    ) -> None:
        """Each name, exposed or local, stands where its parameter does."""
        for group in (*optimizer.param_groups, *optimizer.optim.param_groups):
            self.assertEqual(len(group["param_names"]), len(group["params"]))
            for name, param in zip(group["param_names"], group["params"]):
                self.assertIs(param, params[name])


class TestNamedZero(GlooContinuousTestCase, ZeroTestCase):
    """On two ranks."""

    def test_forms_of_names(self) -> None:
        forms: dict[str, Callable[[Any], Any]] = {
            "pairs": lambda params: params.items(),
            "iterator": lambda params: iter(params.items()),
            "mapping": lambda params: params,
            "group of pairs": lambda params: [{"params": list(params.items())}],
            "group of an iterator": lambda params: [{"params": iter(params.items())}],
            "group of a mapping": lambda params: [{"params": params}],
            "group with param_names": lambda params: [
                {"params": list(params.values()), "param_names": list(params)}
            ],
            "groups": lambda params: in_groups(ADAMW, params),
        }
        for form, given in forms.items():
            params = make_params(ADAMW)
            optimizer = zero(ADAMW, given(params))
            self.assertEqual(dict(optimizer.named_parameters()), params, form)
            self.assert_names_go_with_params(optimizer, params)
            local: list[Any] = [None] * self.world_size
            dist.all_gather_object(local, names_of(optimizer.optim))
            names = [name for rank in local for group in rank for name in group]
            self.assertEqual(sorted(names), sorted(params), form)
            self.assertEqual(len(optimizer._all_params), len(params), form)

    @parametrize("as_view", [False, True])
    def test_state_dict_is_that_of_an_optimizer_that_is_not_sharded(
        self, as_view: bool
    ) -> None:
        for info in DENSE:
            params, plain_params = make_params(info), make_params(info)
            optimizer = zero(
                info, in_groups(info, params), parameters_as_bucket_view=as_view
            )
            plain = build(info, in_groups(info, plain_params))
            train(info, optimizer, params, range(3))
            train(info, plain, plain_params, range(3))
            self.assert_same_state_dict(
                consolidated(optimizer), plain.state_dict(), info.name
            )
            own = {name for group in names_of(optimizer.optim) for name in group}
            self.assertEqual(dict(optimizer.named_state()).keys(), own)
            self.assert_names_go_with_params(optimizer, params)

    @parametrize("order", [subtest(shuffled, "shuffled"), subtest(swapped, "swapped")])
    def test_loads_in_another_order(self, order: Callable[[Any], Any]) -> None:
        for info in DENSE:
            params = make_params(info)
            optimizer = zero(info, in_groups(info, params))
            train(info, optimizer, params, range(3))
            saved = consolidated(optimizer)
            there = make_params(info, order=order(params))
            set_values(there, values(params))
            groups = in_groups(info, there)[::-1]
            loaded = zero(info, [{**group, "lr": 0.7} for group in groups])
            keys = loaded.load_state_dict(saved)
            self.assertEqual(keys, ([], []))
            self.assert_same(
                {k: dict(v) for k, v in sorted(loaded.named_state())},
                {
                    k: v
                    for k, v in sorted(saved["state"].items())
                    if k in dict(loaded.named_state())
                },
                info.name,
            )
            found = options_by_name(loaded, there)
            for name, options in options_by_name(optimizer, params).items():
                self.assert_same(found[name], options, info.name)
            self.assert_names_go_with_params(loaded, there)
            self.assertEqual(
                consolidated(loaded)["state"].keys(), saved["state"].keys()
            )
            self.assert_continues(info, (optimizer, params), (loaded, there))

    def test_loads_on_another_number_of_ranks(self) -> None:
        alone, _ = dist.new_subgroups(1)
        for info in (ADAMW, INFOS["SGD"], INFOS["Adafactor"]):
            sharded = {"process_group": dist.group.WORLD}
            single = {"process_group": alone}
            for before, after in ((sharded, single), (single, sharded)):
                params = make_params(info)
                optimizer = zero(info, in_groups(info, params), **before)
                train(info, optimizer, params, range(3))
                saved = consolidated(optimizer)
                there = make_params(info, order=shuffled(params))
                set_values(there, values(params))
                loaded = zero(info, in_groups(info, there), **after)
                loaded.load_state_dict(saved)
                self.assertEqual(
                    dict(consolidated(loaded)["state"]), saved["state"], rtol=0, atol=0
                )
                self.assert_continues(info, (optimizer, params), (loaded, there))

    def test_exchanges_files_with_an_optimizer_that_is_not_sharded(self) -> None:
        for info in DENSE:
            params, plain_params = make_params(info), make_params(info)
            optimizer = zero(info, in_groups(info, params))
            plain = build(info, in_groups(info, plain_params))
            for o, p in ((optimizer, params), (plain, plain_params)):
                train(info, o, p, range(3))

            there = make_params(info, order=shuffled(params))
            set_values(there, values(params))
            from_zero = build(info, in_groups(info, there))
            from_zero.load_state_dict(consolidated(optimizer))
            there_too = make_params(info, order=swapped(params))
            set_values(there_too, values(plain_params))
            from_plain = zero(info, in_groups(info, there_too))
            from_plain.load_state_dict(deepcopy(plain.state_dict()))
            self.assert_continues(info, (from_zero, there), (from_plain, there_too))

    def test_partial_load(self) -> None:
        info = ADAMW
        params = make_params(info)
        half = {name: params[name] for name in list(params)[::2]}
        optimizer = zero(info, half, lr=0.4)
        train(info, optimizer, half, range(3))
        saved = consolidated(optimizer)
        self.assertLess(len(saved["state"]), len(params))
        saved["state"]["gone"] = next(iter(saved["state"].values()))
        for group in saved["param_groups"]:
            group["params"].append("gone")
        saved["state"]["theirs"] = 2

        there = make_params(info)
        loaded = zero(info, there, lr=0.2)
        train(info, loaded, there, range(1))
        loaded.state["own"] = 1
        before = {name: deepcopy(state) for name, state in loaded.named_state()}
        keys = loaded.load_state_dict(saved, strict=False)
        self.assertEqual(
            keys.missing_keys, [name for name in params if name not in half]
        )
        self.assertEqual(keys.unexpected_keys, ["gone"])
        for name, state in loaded.named_state():
            source = saved["state"] if name in half else before
            self.assert_same(dict(state), dict(source[name]), name)
        self.assertEqual(loaded.param_groups[0]["lr"], 0.4)
        self.assertEqual(loaded.optim.param_groups[0]["lr"], 0.4)
        self.assertEqual(dict(loaded.state), {"own": 1, "theirs": 2})
        self.assertEqual(
            consolidated(loaded)["state"].keys(), {*there, "own", "theirs"}
        )

    def test_failed_load_fails_on_all_ranks_and_changes_nothing(self) -> None:
        info = ADAMW
        params = make_params(info)
        optimizer = zero(info, in_groups(info, params))
        train(info, optimizer, params, range(2))
        saved = consolidated(optimizer)

        def misnamed(state_dict: dict[str, Any]) -> None:
            state_dict["param_groups"][0]["params"][0] = "other"

        def other_shape(state_dict: dict[str, Any]) -> None:
            state_dict["state"]["fc.weight"]["exp_avg"] = torch.zeros(7)

        def no_entry(state_dict: dict[str, Any]) -> None:
            del state_dict["state"]["fc.weight"]["exp_avg"]

        def other_groups(state_dict: dict[str, Any]) -> None:
            first, second = (group["params"] for group in state_dict["param_groups"])
            first.append(second.pop())

        def no_dict(state_dict: dict[str, Any]) -> None:
            state_dict["state"]["conv.weight"] = None

        for change, message in (
            (misnamed, 'Unexpected key(s) in state_dict: "other"'),
            (other_shape, 'The state of "fc.weight" has a size mismatch'),
            (no_entry, 'The state of "fc.weight" has no "exp_avg"'),
            (other_groups, "Groups differ"),
            (no_dict, 'The state of "conv.weight" should be a dict'),
        ):
            bad = deepcopy(saved)
            change(bad)
            before, given = self.shard_of(optimizer), deepcopy(bad)
            with self.assertRaisesRegex(ValueError, re.escape(message)):
                optimizer.load_state_dict(bad)
            self.assertEqual(self.shard_of(optimizer), before)
            self.assert_same(bad, given)
        self.assert_same_state_dict(consolidated(optimizer), saved)

    def test_post_hook_that_fails(self) -> None:
        params = make_params(ADAMW)
        optimizer = zero(ADAMW, params)
        train(ADAMW, optimizer, params, range(2))
        saved = consolidated(optimizer)
        train(ADAMW, optimizer, params, range(2))
        before = self.shard_of(optimizer)
        seen = []

        def hook(loaded: Any) -> None:
            seen.append(next(iter(loaded.optim.state.values()))["step"].item())
            raise RuntimeError("not today")

        handle = optimizer.register_load_state_dict_post_hook(hook)
        with self.assertRaisesRegex(RuntimeError, "not today"):
            optimizer.load_state_dict(saved)
        handle.remove()
        self.assertEqual(seen, [2.0])
        self.assertEqual(self.shard_of(optimizer), before)

    def test_pre_hook_adapts_names(self) -> None:
        params = make_params(ADAMW)
        optimizer = zero(ADAMW, params)
        train(ADAMW, optimizer, params, range(2))
        saved = consolidated(optimizer)
        wrapped = {f"module.{name}": p for name, p in make_params(ADAMW).items()}
        loaded = zero(ADAMW, wrapped)
        with self.assertRaisesRegex(ValueError, 'have the prefix "module."'):
            loaded.load_state_dict(saved)
        loaded.register_load_state_dict_pre_hook(
            lambda _, sd: torch.optim.rename_parameters(sd, lambda n: f"module.{n}")
        )
        loaded.load_state_dict(saved)
        state = {k.removeprefix("module."): v for k, v in loaded.named_state()}
        self.assertTrue(state)
        for name in state:
            self.assert_same(dict(state[name]), dict(saved["state"][name]), name)

    def test_files_of_other_kinds(self) -> None:
        info = ADAMW
        params = make_params(info)
        optimizer = zero(info, in_groups(info, params))
        train(info, optimizer, params, range(3))
        saved = consolidated(optimizer)
        for kind, order, named in (
            (indexed, list, True),
            (annotated, shuffled, True),
            (indexed, list, False),
            (annotated, list, False),
            (deepcopy, list, False),
            (params_alone, list, False),
        ):
            file = kind(deepcopy(saved))
            there = make_params(info, order=order(params))
            set_values(there, values(params))
            groups = in_groups(info, there)
            loaded = zero(info, groups if named else without_names(groups))
            loaded.load_state_dict(file)
            state = consolidated(loaded)
            if named or kind in (annotated, deepcopy):
                self.assertEqual(state["state"], saved["state"], rtol=0, atol=0)
                self.assert_names_go_with_params(loaded, there)
                # The names are there for groups that are added later, too.
                loaded.add_param_group({"params": [("new", Parameter(torch.ones(9)))]})
                self.assertIn("new", itertools.chain(*names_of(loaded)))
            else:
                self.assert_same_state_dict(state, indexed(saved))
                self.assertEqual(names_of(loaded), [None, None])
                self.assertEqual(names_of(loaded.optim), [None, None])

    @parametrize("as_view", [False, True])
    def test_added_group(self, as_view: bool) -> None:
        for info in (ADAMW, INFOS["SGD"]):
            params, plain_params = make_params(info), make_params(info)
            sides = []
            for make, p in ((zero, params), (build, plain_params)):
                names = list(p)
                options = {"parameters_as_bucket_view": True} if as_view else {}
                optimizer = make(
                    info,
                    {name: p[name] for name in names[:3]},
                    **(options if make is zero else {}),
                )
                train(info, optimizer, {name: p[name] for name in names[:3]}, range(2))
                rest = [(name, p[name]) for name in names[3:]]
                optimizer.add_param_group({"params": rest, "lr": 0.5})
                train(info, optimizer, p, range(2, 4))
                sides.append(optimizer)
            optimizer, plain = sides
            self.assert_same_state_dict(consolidated(optimizer), plain.state_dict())
            self.assert_names_go_with_params(optimizer, params)
            for group, message in (
                ({"params": [Parameter(torch.ones(1))]}, "without names"),
                ({"params": [("scale", Parameter(torch.ones(1)))]}, "unique"),
            ):
                before, given = self.shard_of(optimizer), dict(group)
                with self.assertRaisesRegex(ValueError, message):
                    optimizer.add_param_group(group)
                self.assertEqual(self.shard_of(optimizer), before)
                self.assertEqual(list(group), list(given))

    def test_error_of_a_step_names_the_parameter(self) -> None:
        params = make_params(INFOS["Adam"])
        optimizer = zero(INFOS["Adam"], params)
        for param in params.values():
            param.grad = torch.ones_like(param).to_sparse()
        own = names_of(optimizer.optim)[0]
        with self.assertRaisesRegex(RuntimeError, "|".join(map(re.escape, own))):
            optimizer.optim.step()

    def test_state_that_spans_the_parameters_of_a_rank(self) -> None:
        info = INFOS["LBFGS"]
        params = make_params(info)
        optimizer = zero(info, params)
        train(info, optimizer, params, range(2))
        saved = consolidated(optimizer)
        self.assertEqual(len(saved["state"]), 2)
        again = make_params(info)
        same = zero(info, again)
        same.load_state_dict(saved)
        self.assert_same(
            dict(next(iter(same.optim.state.values()))),
            dict(next(iter(optimizer.optim.state.values()))),
        )
        alone, _ = dist.new_subgroups(1)
        for order, options in ((shuffled, {}), (list, {"process_group": alone})):
            other = zero(info, make_params(info, order=order(params)), **options)
            with self.assertRaisesRegex(ValueError, "spans the parameters of a rank"):
                other.load_state_dict(saved)
            self.assertEqual(len(other.optim.state), 0)


class TestNamedZeroOnOneRank(ZeroTestCase):
    """What does not depend on other ranks."""

    def setUp(self) -> None:
        super().setUp()
        folder = self.enterContext(tempfile.TemporaryDirectory())
        join(0, 1, f"{folder}/store")
        self.addCleanup(dist.destroy_process_group)

    @parametrize(
        "make",
        [
            subtest(lambda p: [("a", p), p], "some_names"),
            subtest(lambda p: [p, ("a", p)], "some_names_later"),
            subtest(lambda p: [("a", p, 1)], "triples"),
            subtest(lambda p: [(1, p)], "number_as_name"),
            subtest(lambda p: [("a", 1)], "number_as_param"),
            subtest(lambda p: {"a": [p]}, "nested_mapping"),
            subtest(lambda p: {"params": [p], "lr": 0.1}, "lone_group"),
            subtest(lambda p: {"a": p.detach()}, "detached"),
            subtest(lambda p: [("a", p), ("a", Parameter(p))], "one_name_twice"),
            subtest(lambda p: [{"params": [("a", p), p]}], "some_names_in_group"),
            subtest(lambda p: [{"params": [("a", 1)]}], "number_in_group"),
            subtest(lambda p: [{"params": {"a": 1}}], "number_in_mapping"),
            subtest(lambda p: [{"params": [p], "param_names": []}], "too_few_names"),
            subtest(
                lambda p: [{"params": {"a": p}}, {"params": [Parameter(p)]}],
                "some_groups",
            ),
            subtest(
                lambda p: [{"params": {"a": p}}, {"params": {"a": Parameter(p)}}],
                "one_name_in_two_groups",
            ),
            subtest(lambda p: [("a", p * 2)], "non_leaf"),
        ],
    )
    def test_bad_input_raises_as_for_any_optimizer(
        self, make: Callable[[Any], Any]
    ) -> None:
        param = Parameter(torch.ones(2, 2))
        with self.assertRaises((TypeError, ValueError)) as expected:
            torch.optim.SGD(make(param), lr=0.1)
        with self.assertRaises(type(expected.exception)) as found:
            ZeroRedundancyOptimizer(make(param), torch.optim.SGD, lr=0.1)
        self.assertEqual(str(found.exception), str(expected.exception))

    def test_group_that_is_a_tensor(self) -> None:
        param = Parameter(torch.ones(2, 2))
        optimizer = zero(ADAMW, [{"params": param, "param_names": ["w"]}])
        self.assertEqual(names_of(optimizer.optim), [["w"]])
        self.assertEqual(len(optimizer._all_params), 1)

    def test_group_that_the_local_optimizer_refuses(self) -> None:
        params = make_params(INFOS["LBFGS"])
        optimizer = zero(INFOS["LBFGS"], params)
        # LBFGS itself refuses a second group only while it is constructed.
        optimizer.optim.add_param_group = self.refuse
        before = self.shard_of(optimizer)
        group = {"params": {"more": Parameter(torch.ones(2))}}
        given = dict(group)
        with self.assertRaisesRegex(ValueError, "refused"):
            optimizer.add_param_group(group)
        self.assertEqual(self.shard_of(optimizer), before)
        self.assertEqual(group, given)
        del optimizer.optim.add_param_group
        consolidated(optimizer)

    def refuse(self, group: Any) -> None:
        raise ValueError("refused")

    def test_tied_parameters(self) -> None:
        tied = Parameter(torch.ones(3))
        pairs = [("a", tied), ("b", tied), ("c", Parameter(torch.ones(2)))]
        with self.assertWarnsRegex(UserWarning, "duplicate parameters"):
            optimizer = zero(ADAMW, pairs)
        for _, param in pairs:
            param.grad = torch.ones_like(param)
        optimizer.optim.step()
        saved = consolidated(optimizer)
        self.assertEqual(list(saved["state"]), ["a", "c"])
        again = [(n, Parameter(torch.ones(3 if n == "b" else 2))) for n in "cb"]
        loaded = zero(ADAMW, again)
        saved["param_groups"][0]["params"] = ["b", "c"]
        saved["state"]["b"] = saved["state"].pop("a")
        loaded.load_state_dict(saved)
        self.assertEqual(dict(loaded.named_state()).keys(), {"b", "c"})

    def test_names_edited_by_hand(self) -> None:
        params = make_params(ADAMW)
        optimizer = zero(ADAMW, params)
        train(ADAMW, optimizer, params, range(2))
        group = optimizer.param_groups[0]
        group["param_names"] = [f"new.{name}" for name in group["param_names"]]
        saved = consolidated(optimizer)
        self.assertEqual(list(saved["state"]), [f"new.{name}" for name in params])
        optimizer.load_state_dict(saved)
        self.assertEqual(consolidated(optimizer)["state"], saved["state"])

    def test_overlap_with_ddp(self) -> None:
        params = make_params(INFOS["Adam"])
        plain_params = make_params(INFOS["Adam"])
        plain = build(INFOS["Adam"], plain_params)
        train(INFOS["Adam"], plain, plain_params, range(2))
        optimizer = ZeroRedundancyOptimizer(
            params.items(), torch.optim.Adam, overlap_with_ddp=True, lr=0.1
        )
        self.assertEqual(names_of(optimizer), [list(params)])
        with self.assertRaisesRegex(RuntimeError, "fully initialized"):
            optimizer.load_state_dict(plain.state_dict())
        # What a communication hook does once buckets are known
        optimizer._overlap_info.params_per_bucket = [list(params.values())[::-1]]
        optimizer._init_zero_for_overlap()
        self.assertEqual(names_of(optimizer), [list(params)])
        optimizer.load_state_dict(plain.state_dict())
        state = plain.state_dict()["state"]
        self.assertEqual(len(optimizer.optim.state), len(state))
        for name, param in params.items():
            self.assert_same(dict(optimizer.optim.state[param]), dict(state[name]))
        optimizer._local_step([torch.ones_like(p) for p in reversed(params.values())])


instantiate_parametrized_tests(TestNamedZero)
instantiate_parametrized_tests(TestNamedZeroOnOneRank)


if __name__ == "__main__":
    run_tests()
