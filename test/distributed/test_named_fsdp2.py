# Owner(s): ["oncall: distributed"]
"""Optimizers with parameter names over models that ``fully_shard`` sharded."""

import copy
import io
import itertools
from typing import Any


from _distributed import GlooContinuousTestCase  # usort: skip

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
)


#: Optimizers with options, by a name for the test.
OPTIMIZERS: dict[str, tuple[type, dict[str, Any]]] = {
    "adam_for_loop": (torch.optim.Adam, {"foreach": False}),
    "adam_foreach": (torch.optim.Adam, {"foreach": True, "amsgrad": True}),
    "adamw_fused": (torch.optim.AdamW, {"fused": True}),
    "sgd_for_loop": (torch.optim.SGD, {"foreach": False, "momentum": 0.9}),
    "sgd_foreach": (torch.optim.SGD, {"foreach": True, "momentum": 0.9}),
    "adagrad_foreach": (torch.optim.Adagrad, {"foreach": True}),
}


def make_model(mesh: DeviceMesh, hidden: int = 5) -> nn.Module:
    """Its parameters are split unevenly, and some have one shape."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, hidden), nn.Linear(hidden, 3), nn.Linear(3, 5), nn.Linear(5, 3)
    )
    for layer in model[:2]:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def make_groups(model: nn.Module, *, flip: bool = False) -> list[dict[str, Any]]:
    """Weights and biases, or the same from back to front."""
    pairs = list(model.named_parameters())
    groups = [
        {"params": [(n, p) for n, p in pairs if kind in n], "lr": lr}
        for kind, lr in (("weight", 0.1), ("bias", 0.2))
    ]
    if flip:
        groups = [{**g, "params": g["params"][::-1]} for g in reversed(groups)]
    return groups


def unnamed(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**group, "params": [p for _, p in group["params"]]} for group in groups]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for step in range(steps):
        optimizer.zero_grad()
        x = torch.arange(15.0).reshape(5, 3) / 7 + dist.get_rank() + step
        model(x).sigmoid().square().sum().backward()
        optimizer.step()


class TestNamedFSDP2(GlooContinuousTestCase):
    @property
    def mesh(self) -> DeviceMesh:
        return init_device_mesh("cpu", (self.world_size,))

    def trained(
        self, kind: str = "adam_for_loop"
    ) -> tuple[nn.Module, torch.optim.Optimizer]:
        cls, options = OPTIMIZERS[kind]
        model = make_model(self.mesh)
        optimizer = cls(make_groups(model), **options)
        train(model, optimizer, 2)
        return model, optimizer

    def assert_same_run(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        other: nn.Module,
        other_optimizer: torch.optim.Optimizer,
    ):
        """Both go on alike, to the last bit, on every rank."""
        train(model, optimizer, 2)
        train(other, other_optimizer, 2)
        pairs = zip(other.named_parameters(), model.parameters(), strict=True)
        for (name, ours), theirs in pairs:
            ours, theirs = ours.to_local(), theirs.to_local()
            self.assertEqual(ours, theirs, rtol=0, atol=0, msg=name)

    @parametrize("flip", [False, True], name_fn=lambda f: "reordered" if f else "same")
    @parametrize("kind", list(OPTIMIZERS))
    def test_named_round_trip(self, kind: str, flip: bool):
        cls, options = OPTIMIZERS[kind]
        model, optimizer = self.trained(kind)
        saved = optimizer.state_dict()
        self.assertEqual(
            list(saved["state"]),
            [n for group in saved["param_groups"] for n in group["params"]],
        )
        for name, param in model.named_parameters():
            for key, value in saved["state"][name].items():
                if value.dim() > 0:
                    self.assertIsInstance(value, DTensor, f"{name}.{key}")
                    self.assertEqual(value.placements, param.placements)

        other = make_model(self.mesh)
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        resumed = cls(make_groups(other, flip=flip), **options)
        names = [group["param_names"] for group in resumed.param_groups]
        result = resumed.load_state_dict(copy.deepcopy(saved))
        self.assertEqual((result.missing_keys, result.unexpected_keys), ([], []))
        self.assertEqual([g["param_names"] for g in resumed.param_groups], names)
        self.assertEqual(
            [group["lr"] for group in resumed.param_groups],
            [0.2, 0.1] if flip else [0.1, 0.2],
        )
        for name, param in other.named_parameters():
            for key, value in resumed.state[param].items():
                expected = saved["state"][name][key]
                if isinstance(value, DTensor):
                    self.assertEqual(value.placements, expected.placements)
                    value, expected = value.to_local(), expected.to_local()
                self.assertEqual(value, expected, rtol=0, atol=0, msg=f"{name}.{key}")
        self.assert_same_run(model, optimizer, other, resumed)

    def test_regrouped(self):
        """Other groups are an error, unless each parameter may find its own state."""
        model, optimizer = self.trained()
        saved = optimizer.state_dict()
        other = make_model(self.mesh)
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        pairs = list(other.named_parameters())
        resumed = torch.optim.Adam(
            [{"params": pairs[5:], "lr": 0.3}, {"params": pairs[:5], "lr": 0.4}]
        )
        before = copy.deepcopy(resumed.state_dict())
        with self.assertRaisesRegex(ValueError, "(?s)Groups differ.*2.bias"):
            resumed.load_state_dict(copy.deepcopy(saved))
        self.assertEqual(resumed.state_dict(), before)
        resumed.load_state_dict(copy.deepcopy(saved), strict=False)
        for name, param in pairs:
            for key, value in resumed.state[param].items():
                expected = saved["state"][name][key]
                self.assertTrue(torch.equal(value, expected), f"{name}.{key}")
        self.assertEqual([g["lr"] for g in resumed.param_groups], [0.3, 0.4])

    def test_split_and_joined(self):
        """Dicts of two optimizers are joined, and each takes its part of that."""
        model, optimizer = self.trained()
        whole = copy.deepcopy(optimizer.state_dict())
        parts = [
            torch.optim.Adam([group], foreach=False) for group in make_groups(model)
        ]
        for part in parts:
            result = part.load_state_dict(whole, strict=False)
            self.assertEqual(result.missing_keys, [])
            self.assertEqual(len(result.unexpected_keys), 4)
        dicts = [part.state_dict() for part in parts]
        joined = {
            "state": {**dicts[1]["state"], **dicts[0]["state"]},
            "param_groups": [*dicts[1]["param_groups"], *dicts[0]["param_groups"]],
        }
        other = make_model(self.mesh)
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        resumed = torch.optim.Adam(make_groups(other), foreach=False)
        resumed.load_state_dict(copy.deepcopy(joined))
        self.assert_same_run(model, optimizer, other, resumed)

    def test_file_of_each_rank(self):
        model, optimizer = self.trained()
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        file.seek(0)
        loaded = torch.load(file, weights_only=True)
        other = make_model(self.mesh)
        other.load_state_dict(copy.deepcopy(model.state_dict()))
        resumed = torch.optim.Adam(make_groups(other, flip=True), foreach=False)
        resumed.load_state_dict(loaded)
        self.assert_same_run(model, optimizer, other, resumed)

    def test_copy_of_the_optimizer(self):
        _, optimizer = self.trained()
        optimizer.zero_grad()  # gradients that are DTensors cannot be copied
        twin = copy.deepcopy(optimizer)
        expected = optimizer.state_dict()
        found = twin.state_dict()
        self.assertEqual(found["param_groups"], expected["param_groups"])
        self.assertEqual(list(found["state"]), list(expected["state"]))
        for name, key in itertools.product(expected["state"], ("exp_avg", "step")):
            value = found["state"][name][key]
            self.assertIsNot(value, expected["state"][name][key])
            self.assertTrue(torch.equal(value, expected["state"][name][key]))

    def test_named_and_unnamed(self):
        """By position where only one side has names, as ever."""
        for named in (True, False):
            model, optimizer = self.trained()
            saved = optimizer.state_dict()
            if named:
                plain = torch.optim.Adam(unnamed(make_groups(model)), foreach=False)
                plain.load_state_dict(copy.deepcopy(saved))
                saved = plain.state_dict()
                for group in saved["param_groups"]:
                    group.pop("param_names")
                saved["state"] = dict(enumerate(saved["state"].values()))
                for group, start in zip(saved["param_groups"], (0, 4)):
                    group["params"] = list(range(start, start + 4))
            other = make_model(self.mesh)
            other.load_state_dict(copy.deepcopy(model.state_dict()))
            groups = make_groups(other)
            resumed = torch.optim.Adam(
                groups if named else unnamed(groups), foreach=False
            )
            resumed.load_state_dict(copy.deepcopy(saved))
            self.assert_same_run(model, optimizer, other, resumed)

    def test_other_shape(self):
        _, optimizer = self.trained()
        other = make_model(self.mesh, hidden=7)
        resumed = torch.optim.Adam(make_groups(other))
        with self.assertRaisesRegex(
            ValueError,
            r'"0.weight" has a size mismatch: "exp_avg" has shape \(5, 3\).*\(7, 3\)',
        ):
            resumed.load_state_dict(optimizer.state_dict())
        self.assertEqual(len(resumed.state), 0)


instantiate_parametrized_tests(TestNamedFSDP2)


if __name__ == "__main__":
    run_tests()
