# Owner(s): ["oncall: distributed"]
"""Optimizers that wrap or shard others, with parameter names."""

import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any


from _distributed import GlooContinuousTestCase, join  # usort: skip

from _common import (
    build,
    in_groups,
    make_params,
    names_of,
    OptimTestCase,
    saved,
    set_values,
    shuffled,
    snapshot,
    swapped,
    train,
    values,
)

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed._shard import sharded_tensor
from torch.distributed._shard.sharded_optim import (
    named_params_with_sharded_tensor,
    ShardedOptimizer,
)
from torch.distributed._shard.sharding_spec import ChunkShardingSpec
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.distributed.checkpoint.optimizer import load_sharded_optimizer_state_dict
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict
from torch.distributed.optim import (
    _apply_optimizer_in_backward,
    _get_in_backward_optimizers,
    PostLocalSGDOptimizer,
)
from torch.distributed.optim.named_optimizer import _NamedOptimizer
from torch.nn import Linear, Module, Parameter, Sequential
from torch.optim import Adam, AdamW, SGD
from torch.testing._internal.common_optimizers import optim_db
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


ADAMW = next(info for info in optim_db if info.name == "AdamW")


def make_model(seed: int = 0) -> Module:
    torch.manual_seed(seed)
    return Sequential(Linear(3, 4), Linear(4, 4), Linear(4, 3))


def train_model(model: Module, steps: range, *optimizers: Any) -> None:
    """Train a model with optimizers, or with those applied in backward."""
    for step in steps:
        inputs = torch.arange(6.0).reshape(2, 3) * 0.1 * (step + 1)
        model(inputs).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def post_local_sgd(params: Any) -> PostLocalSGDOptimizer:
    averager = PeriodicModelAverager(period=2, warmup_steps=1)
    return PostLocalSGDOptimizer(build(ADAMW, params), averager)


class TestNamedOnTwoRanks(GlooContinuousTestCase, OptimTestCase):
    """PostLocalSGDOptimizer, ShardedOptimizer, load_sharded_optimizer_state_dict."""

    @parametrize(
        "order",
        [
            subtest(list, "same"),
            subtest(shuffled, "shuffled"),
            subtest(swapped, "swapped"),
        ],
    )
    def test_post_local_sgd_loads_by_name(self, order: Callable[[Any], Any]) -> None:
        params = make_params(ADAMW)
        optimizer = post_local_sgd(in_groups(ADAMW, params))
        train(ADAMW, optimizer, params, range(3))
        file = saved(optimizer)
        self.assertEqual(file["step"], 3)
        self.assertEqual(set(file["state"]), set(params))

        there = make_params(ADAMW, order=order(params))
        set_values(there, values(params))
        loaded = post_local_sgd(in_groups(ADAMW, there)[::-1])
        self.assertEqual(loaded.load_state_dict(file), ([], []))
        self.assertEqual(loaded.averager.step, 3)
        self.assert_same(
            {k: dict(v) for k, v in sorted(loaded.named_state())},
            dict(sorted(file["state"].items())),
        )
        for o, p in ((optimizer, params), (loaded, there)):
            train(ADAMW, o, p, range(3, 6))
        found = values(there)
        self.assert_same(values(params), {name: found[name] for name in params})

    def test_post_local_sgd_averages_as_without_names(self) -> None:
        ends = []
        for given in (lambda p: p, lambda p: p.values()):
            params = make_params(ADAMW)
            for param in params.values():
                param.data += dist.get_rank()
            optimizer = post_local_sgd(given(params))
            train(ADAMW, optimizer, params, range(4))
            ends.append(values(params))
        self.assert_same(*ends)

    def test_post_local_sgd_loads_partially(self) -> None:
        params = make_params(ADAMW)
        optimizer = post_local_sgd(params)
        train(ADAMW, optimizer, params, range(2))
        file = saved(optimizer)
        loaded = post_local_sgd({**make_params(ADAMW), "new": Parameter(torch.ones(2))})
        before = snapshot(loaded.optim)
        with self.assertRaisesRegex(ValueError, 'Missing key.*"new"'):
            loaded.load_state_dict(file)
        self.assertEqual(loaded.averager.step, 0)
        self.assertEqual(snapshot(loaded.optim), before)
        keys = loaded.load_state_dict(file, strict=False)
        self.assertEqual(keys, (["new"], []))
        self.assertEqual(loaded.averager.step, 2)

    def test_post_local_sgd_groups_are_current_after_a_load(self) -> None:
        params = make_params(ADAMW)
        optimizer = post_local_sgd(list(params.values()))
        optimizer.load_state_dict(saved(build(ADAMW, make_params(ADAMW), lr=0.7)))
        # An optimizer without names takes those of the state dict.
        self.assertEqual(names_of(optimizer), [list(params)])
        self.assertEqual(optimizer.param_groups[0]["lr"], 0.7)
        optimizer.add_param_group({"params": {"new": Parameter(torch.ones(2))}})
        self.assertEqual(names_of(optimizer), [list(params), ["new"]])
        self.assertEqual(
            [name for name, _ in optimizer.named_parameters()], [*params, "new"]
        )

    def test_sharded_optimizer_hands_on_names(self) -> None:
        spec = ChunkShardingSpec(dim=0, placements=["rank:0/cpu", "rank:1/cpu"])
        both_on_first = ChunkShardingSpec(
            dim=0, placements=["rank:0/cpu", "rank:0/cpu"]
        )
        model = make_model()
        model[0].table = sharded_tensor.ones(spec, 4, 2)
        model[1].table = sharded_tensor.ones(both_on_first, 4, 2)
        for module in model[:2]:
            for shard in module.table.local_shards():
                shard.tensor.requires_grad_()
        params = dict(named_params_with_sharded_tensor(model))
        optimizer = ShardedOptimizer(params, AdamW)
        several = ["1.table.shard0", "1.table.shard1"] if self.rank == 0 else []
        self.assertEqual(
            [name for name, _ in optimizer.named_parameters()],
            ["0.table", *several, *(name for name, _ in model.named_parameters())],
        )
        for _, param in optimizer.named_parameters():
            param.grad = torch.ones_like(param).to_sparse()
        with self.assertRaisesRegex(RuntimeError, r"\(parameter '0.table'\)"):
            optimizer.step()
        for _, param in optimizer.named_parameters():
            param.grad = torch.ones_like(param)
        before = params["0.weight"].detach().clone()
        optimizer.step()
        self.assertNotEqual(params["0.weight"], before)

    def folder(self) -> str:
        folders = [tempfile.mkdtemp()]
        dist.broadcast_object_list(folders)
        return folders[0]

    def gathered(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """The state with tensors in place of sharded tensors, on each rank."""
        whole: dict[str, Any] = {}
        for name, entries in sorted(state.items()):
            whole[name] = {}
            for key, value in sorted(entries.items()):
                if isinstance(value, sharded_tensor.ShardedTensor):
                    full = torch.empty(value.size())
                    value.gather(0, full if self.rank == 0 else None)
                    dist.broadcast(full, 0)
                    value = full
                whole[name][key] = value
        return whole

    def test_load_sharded_state_by_name(self) -> None:
        model, other = make_model(), make_model()
        optimizer = AdamW(model.named_parameters(), lr=0.3)
        train_model(model, range(2), optimizer)
        folder = self.folder()
        dcp.save({"optim": optimizer.state_dict()}, checkpoint_id=folder)
        other.load_state_dict(model.state_dict())
        loaded = load_sharded_optimizer_state_dict(
            other.state_dict(), "optim", dcp.FileSystemReader(folder)
        )["optim"]
        self.assertIsInstance(
            loaded["state"]["0.weight"]["exp_avg"], sharded_tensor.ShardedTensor
        )
        self.assertEqual(loaded["state"]["0.weight"]["exp_avg"].size(), (4, 3))
        file = {**loaded, "state": self.gathered(loaded["state"])}
        reordered = AdamW(list(other.named_parameters())[::-1])
        reordered.load_state_dict(file)
        for m, o in ((model, optimizer), (other, reordered)):
            train_model(m, range(2, 4), o)
        self.assert_same(model.state_dict(), other.state_dict())
        dist.barrier()
        if self.rank == 0:
            shutil.rmtree(folder)

    def test_load_what_one_rank_saved(self) -> None:
        model = make_model()
        optimizer = AdamW(model.named_parameters(), lr=0.3)
        train_model(model, range(2), optimizer)
        folder = self.folder()
        if self.rank == 0:
            dcp.save(
                {"optim": optimizer.state_dict()}, checkpoint_id=folder, no_dist=True
            )
        dist.barrier()
        loaded = load_sharded_optimizer_state_dict(
            model.state_dict(), "optim", dcp.FileSystemReader(folder)
        )["optim"]
        shards = loaded["state"]["1.weight"]["exp_avg_sq"].local_shards()
        self.assertEqual([shard.tensor.shape for shard in shards], [(2, 4)])
        self.assert_same(
            self.gathered(loaded["state"]),
            {
                name: dict(sorted(state.items()))
                for name, state in sorted(optimizer.state_dict()["state"].items())
            },
        )
        self.assertEqual(
            loaded["param_groups"][0]["params"],
            [name for name, _ in model.named_parameters()],
        )
        dist.barrier()
        if self.rank == 0:
            shutil.rmtree(folder)


class TestNamedOptimizerWrapper(OptimTestCase):
    """_NamedOptimizer, in one process."""

    def named(self, model: Module, **kwargs: Any) -> _NamedOptimizer:
        return _NamedOptimizer(dict(model.named_parameters()), AdamW, **kwargs)

    @parametrize("set_to_none", [True, False])
    def test_zero_grad(self, set_to_none: bool) -> None:
        model = make_model()
        optimizer = self.named(model)
        train_model(model, range(1))
        optimizer.zero_grad(set_to_none=set_to_none)
        for param in model.parameters():
            if set_to_none:
                self.assertIsNone(param.grad)
            else:
                self.assertEqual(param.grad, torch.zeros_like(param))

    def test_repr(self) -> None:
        optimizer = self.named(make_model(), lr=0.25)
        expected = repr(optimizer._optimizer).replace("AdamW", "_NamedOptimizer")
        self.assertEqual(repr(optimizer), expected)

    def test_state_dict_is_that_of_an_optimizer_with_names(self) -> None:
        model, other = make_model(), make_model()
        optimizer = self.named(model)
        plain = AdamW(other.named_parameters())
        train_model(model, range(2), optimizer)
        train_model(other, range(2), plain)
        expected = plain.state_dict()
        found = optimizer.state_dict()
        self.assert_same(found["state"], expected["state"])
        for group, other_group in zip(
            found["param_groups"], expected["param_groups"], strict=True
        ):
            # The wrapper of releases without the patches would take them for an
            # option.
            del other_group["param_names"]
            # In another order, as ever.
            other_group["params"] = sorted(other_group["params"])
            self.assert_same(
                dict(sorted(group.items())), dict(sorted(other_group.items()))
            )

    def test_exchanges_files_with_an_optimizer_with_names(self) -> None:
        model, reversed_model = make_model(), make_model()
        optimizer = self.named(model)
        train_model(model, range(2), optimizer)
        reversed_model.load_state_dict(model.state_dict())
        plain = AdamW(list(reversed_model.named_parameters())[::-1], lr=0.5)
        plain.load_state_dict(saved(optimizer))

        third = make_model()
        third.load_state_dict(model.state_dict())
        back = self.named(third)
        train_model(third, range(1), back)
        third.load_state_dict(model.state_dict())
        back.load_state_dict(saved(plain))
        self.assertEqual(back.param_groups[0]["lr"], plain.param_groups[0]["lr"])
        for m, o in ((model, optimizer), (reversed_model, plain), (third, back)):
            train_model(m, range(2, 4), o)
        self.assert_same(model.state_dict(), reversed_model.state_dict())
        self.assert_same(model.state_dict(), third.state_dict())

    def test_loads_in_another_order_and_in_other_groups(self) -> None:
        model, other = make_model(), make_model()
        params, there = (dict(m.named_parameters()) for m in (model, other))
        names = list(params)
        optimizer = _NamedOptimizer(
            params,
            AdamW,
            [
                {"params": [params[name] for name in names[:2]], "lr": 0.1},
                {"params": [params[name] for name in names[2:]], "lr": 0.2},
            ],
        )
        train_model(model, range(2), optimizer)
        other.load_state_dict(model.state_dict())
        loaded = _NamedOptimizer(
            there,
            AdamW,
            [
                {"params": [there[name] for name in names[:1:-1]], "lr": 0.5},
                {"params": [there[name] for name in names[1::-1]], "lr": 0.5},
            ],
        )
        loaded.init_state()
        other.load_state_dict(model.state_dict())
        loaded.load_state_dict(saved(optimizer))
        self.assertEqual([g["lr"] for g in loaded.param_groups], [0.2, 0.1])
        for m, o in ((model, optimizer), (other, loaded)):
            train_model(m, range(2, 4), o)
        self.assert_same(model.state_dict(), other.state_dict())

    def test_group_that_is_refused(self) -> None:
        model = make_model()
        params = dict(model.named_parameters())
        first = [{"params": [params["0.weight"]]}]
        optimizer = _NamedOptimizer(params, AdamW, first)
        with self.assertRaisesRegex(ValueError, "more than one parameter group"):
            optimizer.add_param_group({"params": params["0.weight"]})
        optimizer.add_param_group({"params": params["0.bias"]})
        optimizer.init_state()
        state = optimizer.state_dict()["state"]
        self.assertEqual(list(state), ["0.weight", "0.bias"])
        self.assertEqual(state["0.bias"]["exp_avg"].shape, params["0.bias"].shape)

    def test_groups_are_current_after_a_load(self) -> None:
        optimizer = self.named(make_model())
        optimizer.init_state()
        file = saved(optimizer)
        file["param_groups"][0]["lr"] = 0.7
        optimizer.load_state_dict(file)
        self.assertEqual(optimizer.param_groups[0]["lr"], 0.7)
        self.assertIs(optimizer.param_groups, optimizer._optimizer.param_groups)


class TestNamedInBackward(OptimTestCase):
    """_apply_optimizer_in_backward, in one process."""

    def apply(self, model: Module, **kwargs: Any) -> list[Any]:
        params = dict(model.named_parameters())
        first = {name: params[name] for name in params if name.startswith("0")}
        rest = [(name, params[name]) for name in params if name not in first]
        _apply_optimizer_in_backward(AdamW, first, {"lr": 0.1, **kwargs})
        _apply_optimizer_in_backward(Adam, iter(rest), {"lr": 0.2, **kwargs})
        return _get_in_backward_optimizers(model)

    def merged(self, optimizers: list[Any]) -> dict[str, Any]:
        state: dict[str, Any] = {}
        groups = []
        for optimizer in optimizers:
            state_dict = saved(optimizer)
            self.assertTrue(state.keys().isdisjoint(state_dict["state"]))
            state |= state_dict["state"]
            groups += state_dict["param_groups"]
        return {"state": state, "param_groups": groups}

    def test_steps_are_those_without_names(self) -> None:
        model, other = make_model(), make_model()
        self.apply(model)
        params = dict(other.named_parameters())
        _apply_optimizer_in_backward(AdamW, other[0].parameters(), {"lr": 0.1})
        _apply_optimizer_in_backward(Adam, other[1:].parameters(), {"lr": 0.2})
        self.assertEqual(len(params), 6)
        train_model(model, range(3))
        train_model(other, range(3))
        self.assert_same(model.state_dict(), other.state_dict())

    def test_state_dicts_merge_and_load(self) -> None:
        model, other = make_model(), make_model(seed=1)
        optimizers = self.apply(model)
        train_model(model, range(3))
        file = self.merged(optimizers)
        self.assertEqual(list(file["state"]), [n for n, _ in model.named_parameters()])

        loaded = self.apply(other, weight_decay=0.5)
        for optimizer in loaded[::-1]:
            keys = optimizer.load_state_dict(file, strict=False)
            self.assertEqual(keys.missing_keys, [])
            self.assertEqual(len(keys.unexpected_keys), 5)
        self.assert_same(self.merged(loaded), file)
        other.load_state_dict(model.state_dict())
        train_model(model, range(3, 6))
        train_model(other, range(3, 6))
        self.assert_same(model.state_dict(), other.state_dict())

    def test_merged_state_loads_in_one_optimizer(self) -> None:
        model, other = make_model(), make_model()
        _apply_optimizer_in_backward(AdamW, model.named_parameters(), {"lr": 0.1})
        train_model(model, range(3))
        file = self.merged(_get_in_backward_optimizers(model))
        other.load_state_dict(model.state_dict())
        one = AdamW(list(other.named_parameters())[::-1])
        self.assertEqual(one.load_state_dict(file, strict=False), ([], []))
        self.assertEqual(one.param_groups[0]["lr"], 0.1)
        train_model(model, range(3, 5))
        train_model(other, range(3, 5), one)
        self.assert_same(model.state_dict(), other.state_dict())

    def test_distributed_checkpoint(self) -> None:
        model = make_model()
        optimizers = self.apply(model)
        train_model(model, range(2))
        found = get_optimizer_state_dict(model, optimizers)
        self.assert_same(
            {k: dict(sorted(v.items())) for k, v in found["state"].items()},
            {
                k: dict(sorted(v.items()))
                for k, v in self.merged(optimizers)["state"].items()
            },
        )

    @parametrize(
        "make",
        [
            subtest(lambda p: [("a", p), p], "some_names"),
            subtest(lambda p: [("a", p), ("a", Parameter(p))], "one_name_twice"),
            subtest(lambda p: [("a", p), (1, p)], "number_as_name"),
            subtest(lambda p: [("a", p), ("b", 1)], "number_as_param"),
            subtest(lambda p: {"a": p, "b": [p]}, "nested_mapping"),
        ],
    )
    def test_bad_input_is_refused_before_any_is_applied(
        self, make: Callable[[Any], Any]
    ) -> None:
        param = Parameter(torch.ones(2, 2))
        with self.assertRaises((TypeError, ValueError)) as expected:
            SGD(make(param), lr=0.1)
        with self.assertRaises(type(expected.exception)) as found:
            _apply_optimizer_in_backward(SGD, make(param), {"lr": 0.1})
        self.assertEqual(str(found.exception), str(expected.exception))
        self.assertFalse(hasattr(param, "_in_backward_optimizers"))


class TestNamedShardsOnOneRank(OptimTestCase):
    def test_load_what_two_ranks_saved(self) -> None:
        folder = self.enterContext(tempfile.TemporaryDirectory())
        torch.multiprocessing.spawn(_save_on_two_ranks, (folder,), nprocs=2)
        join(0, 1, f"{folder}/one")
        self.addCleanup(dist.destroy_process_group)
        model = make_model()
        optimizer = AdamW(model.named_parameters())
        loaded = load_sharded_optimizer_state_dict(
            model.state_dict(), "optim", dcp.FileSystemReader(f"{folder}/saved")
        )["optim"]
        for entries in loaded["state"].values():
            for key, value in entries.items():
                if isinstance(value, sharded_tensor.ShardedTensor):
                    entries[key] = value.local_shards()[0].tensor
        optimizer.load_state_dict(loaded)
        for name, state in optimizer.named_state():
            self.assertEqual(state["exp_avg"], 0.1 * _gradient(name, state["exp_avg"]))


def _gradient(name: str, like: torch.Tensor) -> torch.Tensor:
    return torch.arange(like.numel()).reshape(like.shape).float() + len(name)


def _save_on_two_ranks(rank: int, folder: str) -> None:
    join(rank, 2, f"{folder}/two")
    model = make_model()
    optimizer = AdamW(model.named_parameters())
    for name, param in model.named_parameters():
        param.grad = _gradient(name, param)
    optimizer.step()
    mesh = dist.init_device_mesh("cpu", (2,))
    state_dict = optimizer.state_dict()
    for state in state_dict["state"].values():
        for key in ("exp_avg", "exp_avg_sq"):
            state[key] = dist.tensor.distribute_tensor(
                state[key], mesh, [dist.tensor.Shard(0)]
            )
    dcp.save({"optim": state_dict}, checkpoint_id=f"{folder}/saved")
    dist.destroy_process_group()


instantiate_parametrized_tests(TestNamedOnTwoRanks)
instantiate_parametrized_tests(TestNamedOptimizerWrapper)
instantiate_parametrized_tests(TestNamedInBackward)


if __name__ == "__main__":
    run_tests()
