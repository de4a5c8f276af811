"""A tiny model, trained the same way whoever optimizes it.

Every random number and every gradient depends on the parameters' names and on
the number of the step, never on the order in which an optimizer has them.
"""

import io
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn


#: Steps before the checkpoint, and the steps after it.
BEFORE = range(4)
AFTER = range(4, 8)

#: How parameters are given to an optimizer.
Form: TypeAlias = Literal["tensors", "pairs", "mapping"]

_MODULES = ("embed", "conv", "norm", "first", "second", "head")
_SHUFFLED = ("second", "norm", "head", "embed", "first", "conv")


class Model(nn.Module):
    """A model whose parameters come in an order of choice.

    Args:
        width (int): of its layers.
        modules (sequence of str): its submodules in the order of registration.
    """

    def __init__(self, width: int, modules: Sequence[str] = _MODULES) -> None:
        super().__init__()
        self.has_conv = "conv" in modules
        parts: dict[str, nn.Module] = {
            "embed": nn.Embedding(12, width),
            "conv": nn.Conv1d(width, width, 3, padding=1),
            "norm": nn.LayerNorm(width),
            "first": nn.Linear(width, width),
            "second": nn.Linear(width, width),
            "head": nn.Linear(width, 4),
        }
        for name in modules:
            self.add_module(name, parts[name])
        with torch.no_grad():
            for name, param in self.named_parameters():
                generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
                param.copy_(torch.randn(param.shape, generator=generator) * 0.3)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map a batch of token ids, ``(batch, length)``, to ``(batch, 4)``."""
        x = self.embed(tokens)
        if self.has_conv:
            x = x + self.conv(x.transpose(1, 2)).transpose(1, 2)
        x = torch.tanh(self.first(self.norm(x)))
        x = torch.tanh(self.second(x))
        return self.head(x.mean(1))


@dataclass(frozen=True)
class Inputs:
    """Parameters for an optimizer, in one of the forms that it may take."""

    model: Model
    params: dict[str, nn.Parameter]
    form: Form

    def all(self) -> Any:
        """All parameters."""
        return self.only(lambda name, param: True)

    def only(self, wanted: Callable[[str, nn.Parameter], bool]) -> Any:
        """The parameters for which a function of name and tensor is true."""
        chosen = {n: p for n, p in self.params.items() if wanted(n, p)}
        if self.form == "tensors":
            return list(chosen.values())
        return chosen if self.form == "mapping" else list(chosen.items())


@dataclass
class Batch:
    """What a step may ask for: the loss, and a closure that computes it."""

    model: Model
    tokens: Tensor
    targets: Tensor

    def loss(self) -> Tensor:
        """The loss, with gradients not yet computed."""
        return nn.functional.mse_loss(self.model(self.tokens), self.targets)

    def closure(self, create_graph: bool = False) -> Callable[[], Tensor]:
        """A closure that computes loss and gradients anew."""

        def compute() -> Tensor:
            self.model.zero_grad()
            # AliG calls it where gradients are off.
            with torch.enable_grad():
                loss = self.loss()
                loss.backward(create_graph=create_graph)
            return loss

        return compute


#: Makes an optimizer of parameters.
Build: TypeAlias = Callable[[Inputs], Any]

#: Takes one step with an optimizer.
Step: TypeAlias = Callable[[Any, Batch], None]


def plain_step(optimizer: Any, batch: Batch) -> None:
    """Compute the gradients and take a step."""
    batch.closure()()
    optimizer.step()


def closure_step(optimizer: Any, batch: Batch) -> None:
    """Take a step that may compute the loss again."""
    batch.closure()()
    optimizer.step(batch.closure())


def second_order_step(optimizer: Any, batch: Batch) -> None:
    """Take a step that differentiates the gradients."""
    batch.closure(create_graph=True)()
    optimizer.step()


@dataclass(frozen=True)
class Case:
    """An optimizer class and how it is used.

    Attributes:
        package (str): the package, as it is imported.
        name (str): the class.
        build: makes the optimizer.
        step: takes a step with it.
        width (int): of the model.
        conv (bool): whether the model has a weight of three dimensions.
    """

    package: str
    name: str
    build: Build
    step: Step = plain_step
    width: int = 8
    conv: bool = True


@dataclass
class Run:
    """A model and its optimizer."""

    case: Case
    model: Model
    optimizer: Any

    def train(self, steps: Iterable[int]) -> None:
        """Take the steps of these numbers."""
        # schedulefree's classes have two modes, as a module has.
        if callable(getattr(self.optimizer, "train", None)):
            self.optimizer.train()
        for step in steps:
            # Some draw from torch's generator, some from the others.
            random.seed(1000 + step)
            np.random.seed(1000 + step)
            torch.manual_seed(1000 + step)
            tokens = torch.randint(0, 12, (6, 5))
            batch = Batch(self.model, tokens, torch.randn(6, 4))
            self.case.step(self.optimizer, batch)

    def values(self) -> dict[str, Tensor]:
        """Copies of the parameters, by name."""
        named = sorted(self.model.named_parameters())
        return {name: param.detach().clone() for name, param in named}

    def checkpoint(self) -> bytes:
        """Model and optimizer, saved."""
        # schedulefree's classes ask for it; some lose state otherwise.
        if callable(getattr(self.optimizer, "eval", None)):
            self.optimizer.eval()
        file = io.BytesIO()
        torch.save((self.values(), self.optimizer.state_dict()), file)
        return file.getvalue()


def start(case: Case, form: Form, *, shuffled: bool = False) -> Run:
    """Make a model and its optimizer.

    Args:
        case (Case): which optimizer.
        form (str): in which form it gets the parameters.
        shuffled (bool): whether they come in another order.
    """
    order = _SHUFFLED if shuffled else _MODULES
    model = Model(case.width, [n for n in order if case.conv or n != "conv"])
    params = dict(model.named_parameters())
    if shuffled:
        params = dict(reversed(params.items()))
    return Run(case, model, case.build(Inputs(model, params, form)))


def resume(
    case: Case,
    form: Form,
    checkpoint: bytes,
    *,
    shuffled: bool = False,
    aligned: bool = False,
) -> Run:
    """Make a model and its optimizer, and load a checkpoint into both.

    Args:
        case (Case): which optimizer.
        form (str): in which form it gets the parameters.
        checkpoint (bytes): from :meth:`Run.checkpoint`.
        shuffled (bool): whether the parameters come in another order.
        aligned (bool): whether the names in the checkpoint's groups are put in
            the order of the optimizer's before it is loaded.
    """
    run = start(case, form, shuffled=shuffled)
    # Several classes keep objects of their own in their state.
    values, state_dict = torch.load(io.BytesIO(checkpoint), weights_only=False)
    run.model.load_state_dict(values)
    if aligned:
        _align(state_dict, run.optimizer.state_dict())
    run.optimizer.load_state_dict(state_dict)
    return run


def _align(saved: Any, live: Any) -> None:
    for into, source in zip(state_dicts(saved), state_dicts(live)):
        for saved_group, group in zip(into["param_groups"], source["param_groups"]):
            for key in ("params", "param_names"):
                if key in group and set(saved_group.get(key, ())) == set(group[key]):
                    saved_group[key] = list(group[key])


def state_dicts(value: Any) -> Iterator[dict[str, Any]]:
    """The optimizer state dicts in a value; wrappers put theirs in another."""
    if isinstance(value, dict):
        if "state" in value and "param_groups" in value:
            yield value
        for inner in value.values():
            yield from state_dicts(inner)
