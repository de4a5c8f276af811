# Owner(s): ["oncall: distributed"]
"""Optimizers with parameter names over models in DistributedDataParallel."""

import copy
import io
from typing import Any


from _distributed import GlooContinuousTestCase  # usort: skip

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 3))


def sgd(model: nn.Module, *, flip: bool = False) -> torch.optim.Optimizer:
    """Groups of weights and biases, or the same from back to front."""
    pairs = list(model.named_parameters())
    groups: list[dict[str, Any]] = [
        {"params": [(n, p) for n, p in pairs if kind in n], "lr": lr}
        for kind, lr in (("weight", 0.01), ("bias", 0.02))
    ]
    if flip:
        groups = [{**g, "params": g["params"][::-1]} for g in reversed(groups)]
    return torch.optim.SGD(groups, momentum=0.9)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    """The loss is of both ranks' data, also for a model that is not wrapped."""
    for step in range(steps):
        optimizer.zero_grad()
        for rank in range(2):
            x = torch.arange(15.0).reshape(5, 3) / 7 + rank + step
            if isinstance(model, DDP):
                if rank == dist.get_rank():
                    model(x).square().mean().backward()
            else:
                (model(x).square().mean() / 2).backward()
        optimizer.step()


class TestNamedDDP(GlooContinuousTestCase):
    def trained(self) -> tuple[DDP, torch.optim.Optimizer]:
        model = DDP(make_model())
        optimizer = sgd(model)
        train(model, optimizer, 2)
        return model, optimizer

    def saved_on_rank_0(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The state dict that the first rank saved, loaded on each."""
        file = io.BytesIO()
        torch.save(optimizer.state_dict(), file)
        content = [file.getvalue() if self.rank == 0 else None]
        dist.broadcast_object_list(content)
        return torch.load(io.BytesIO(content[0]), weights_only=True)

    def assert_same_parameters(self, model: nn.Module, other: nn.Module, **tolerance):
        for (name, ours), theirs in zip(
            other.named_parameters(), model.parameters(), strict=True
        ):
            self.assertEqual(ours, theirs, msg=name, **tolerance)

    @parametrize("flip", [False, True], name_fn=lambda f: "reordered" if f else "same")
    def test_named_round_trip(self, flip: bool):
        model, optimizer = self.trained()
        saved = self.saved_on_rank_0(optimizer)
        self.assertEqual(
            list(saved["state"]),
            [f"module.{i}.{kind}" for kind in ("weight", "bias") for i in range(3)],
        )
        inner = make_model()
        inner.load_state_dict(copy.deepcopy(model.module.state_dict()))
        other = DDP(inner)
        resumed = sgd(other, flip=flip)
        result = resumed.load_state_dict(saved)
        self.assertEqual((result.missing_keys, result.unexpected_keys), ([], []))
        self.assertEqual(
            resumed.param_groups[0]["param_names"],
            list(saved["state"])[3:][::-1] if flip else list(saved["state"])[:3],
        )
        train(model, optimizer, 2)
        train(other, resumed, 2)
        self.assert_same_parameters(model, other, rtol=0, atol=0)
        # The ranks have one and the same model
        for param in other.parameters():
            first = param.detach().clone()
            dist.broadcast(first, src=0)
            self.assertEqual(param, first, rtol=0, atol=0)

    def test_prefix(self):
        """From a wrapped model to one that is not, and back, in another order."""
        model, optimizer = self.trained()
        saved = self.saved_on_rank_0(optimizer)
        plain = make_model()
        plain.load_state_dict(copy.deepcopy(model.module.state_dict()))
        alone = sgd(plain, flip=True)
        with self.assertRaisesRegex(ValueError, r'prefix.*"module\."'):
            alone.load_state_dict(saved)
        self.assertEqual(len(alone.state), 0)
        renamed = torch.optim.rename_parameters(
            saved, lambda name: name.removeprefix("module.")
        )
        alone.load_state_dict(renamed)
        for name, param in plain.named_parameters():
            self.assertEqual(alone.state[param], saved["state"][f"module.{name}"])
        train(model, optimizer, 2)
        train(plain, alone, 2)
        self.assert_same_parameters(model, plain)

        inner = make_model()
        inner.load_state_dict(copy.deepcopy(plain.state_dict()))
        other = DDP(inner)
        resumed = sgd(other)
        saved = self.saved_on_rank_0(alone)
        with self.assertRaisesRegex(ValueError, r'prefix.*"module\."'):
            resumed.load_state_dict(saved)
        resumed.load_state_dict(
            torch.optim.rename_parameters(saved, "module.{}".format)
        )
        train(plain, alone, 2)
        train(other, resumed, 2)
        self.assert_same_parameters(plain, other)

    def test_names_without_prefix(self):
        """An optimizer named by the model inside needs no renaming."""
        model, _ = self.trained()
        inside = sgd(model.module)
        train(model, inside, 1)
        plain = sgd(make_model(), flip=True)
        saved = self.saved_on_rank_0(inside)
        plain.load_state_dict(saved)
        self.assertEqual(plain.state_dict()["state"], saved["state"])


instantiate_parametrized_tests(TestNamedDDP)


if __name__ == "__main__":
    run_tests()
