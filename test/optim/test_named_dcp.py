# Owner(s): ["oncall: distributed checkpointing"]

"""Distributed checkpoints of optimizers with and without names, in one process."""

from copy import deepcopy

import torch
from _common import OptimTestCase
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    set_optimizer_state_dict,
    StateDictOptions,
)
from torch.optim import Adam
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


OPTIONS = [
    subtest({}, "plain"),
    subtest({"flatten_optimizer_state_dict": True}, "flattened"),
    subtest({"full_state_dict": True}, "full"),
    subtest({"cpu_offload": True}, "offloaded"),
]


class Wrapper(nn.Module):
    """Puts ``module.`` before the names of parameters, as DDP does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def make_optimizer(
    model: nn.Module, *, named: bool, lr: float, backwards: bool = False
) -> Adam:
    pairs = list(model.named_parameters())
    groups = [pairs[:2], pairs[2:]]
    if backwards:
        groups = [pairs[:1:-1], pairs[1::-1]]
    params = [g if named else [p for _, p in g] for g in groups]
    return Adam([{"params": params[0], "lr": lr}, {"params": params[1]}], lr=lr / 10)


def train(model: nn.Module, optimizer: Adam, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(5, 3)).pow(2).sum().backward()
        optimizer.step()


class TestNamedDCP(OptimTestCase):
    @parametrize("options", OPTIONS)
    @parametrize("source_named", [True, False])
    @parametrize("target_named", [True, False])
    def test_resume_in_another_order(self, options, source_named, target_named):
        model = make_model()
        optimizer = make_optimizer(model, named=source_named, lr=0.1)
        train(model, optimizer, 3)
        options = StateDictOptions(**options)
        saved = get_optimizer_state_dict(model, optimizer, options=options)

        again = make_model()
        again.load_state_dict(model.state_dict())
        resumed = make_optimizer(again, named=target_named, lr=0.9, backwards=True)
        names = [group.get("param_names") for group in resumed.param_groups]
        set_optimizer_state_dict(again, resumed, deepcopy(saved), options=options)

        after = [group.get("param_names") for group in resumed.param_groups]
        self.assertEqual(after, names)
        train(model, optimizer, 2)
        train(again, resumed, 2)
        for one, other in zip(model.parameters(), again.parameters(), strict=True):
            self.assertEqual(one, other, rtol=0, atol=0)

    @parametrize("options", OPTIONS)
    def test_names_make_no_difference(self, options):
        checkpoints = []
        for named in (False, True):
            model = make_model()
            optimizer = make_optimizer(model, named=named, lr=0.1)
            train(model, optimizer, 2)
            checkpoints.append(
                get_optimizer_state_dict(
                    model, optimizer, options=StateDictOptions(**options)
                )
            )
        self.assert_same(*checkpoints)

    def test_names_with_a_wrapper_prefix(self):
        # As of an optimizer that was built from the parameters of the wrapped model.
        model = make_model()
        wrapped = Wrapper(model)
        optimizer = make_optimizer(wrapped, named=True, lr=0.1)
        train(model, optimizer, 2)
        saved = get_optimizer_state_dict(model, optimizer)
        self.assertEqual(list(saved["state"]), list(dict(model.named_parameters())))
        names = [name for name, _ in optimizer.named_parameters()]
        set_optimizer_state_dict(model, optimizer, saved)
        self.assertEqual([name for name, _ in optimizer.named_parameters()], names)
        self.assertTrue(names[0].startswith("module."))

    @parametrize("flattened", [True, False])
    def test_checkpoint_of_a_release_that_stores_names(self, flattened):
        model = make_model()
        optimizer = make_optimizer(model, named=True, lr=0.1)
        train(model, optimizer, 2)
        options = StateDictOptions(flatten_optimizer_state_dict=flattened)
        saved = get_optimizer_state_dict(model, optimizer, options=options)
        names = [group["param_names"] for group in optimizer.param_groups]
        if flattened:
            for group in names:
                for name in group:
                    saved[f"param_groups.{name}.param_names"] = group
        else:
            for group, own in zip(saved["param_groups"], names, strict=True):
                group["param_names"] = own
        for named in (True, False):
            target = make_optimizer(model, named=named, lr=0.9, backwards=True)
            before = [group.get("param_names") for group in target.param_groups]
            set_optimizer_state_dict(model, target, deepcopy(saved), options=options)
            after = [group.get("param_names") for group in target.param_groups]
            self.assertEqual(after, before)
            # The groups are in the other order.
            lrs = [group["lr"] for group in target.param_groups]
            self.assertEqual(lrs, [g["lr"] for g in optimizer.param_groups][::-1])

    def test_flattened_size_is_linear(self):
        sizes = []
        for number in (10, 100):
            model = nn.ParameterDict(
                {f"p{i}": nn.Parameter(torch.zeros(1)) for i in range(number)}
            )
            optimizer = Adam(model.named_parameters())
            saved = get_optimizer_state_dict(
                model,
                optimizer,
                options=StateDictOptions(flatten_optimizer_state_dict=True),
            )
            sizes.append(
                sum(len(v) if isinstance(v, list) else 1 for v in saved.values())
            )
        self.assertEqual(sizes[1], 10 * sizes[0])


instantiate_parametrized_tests(TestNamedDCP)


if __name__ == "__main__":
    run_tests()
