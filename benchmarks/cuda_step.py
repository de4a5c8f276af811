"""Steps with and without names on a GPU: the same bits, and how long they take.

Run ``python benchmarks/cuda_step.py`` with a patched torch for CUDA, of any release.
For each optimizer and implementation, an optimizer with names and one without take
the same steps, load what they saved (the one with names in another order), and take
another one. Parameters and state are to be equal, bit for bit.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch


#: The implementations, by the arguments that choose them.
WAYS: dict[str, dict[str, Any]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"foreach": True, "capturable": True},
    "CUDA graph": {"foreach": True, "capturable": True},
}

#: The optimizers, their arguments, and the implementations that they do not have.
OPTIMIZERS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "SGD": ({"momentum": 0.9}, {"capturable", "CUDA graph"}),
    "Adagrad": ({}, {"fused", "capturable", "CUDA graph"}),
    "Adam": ({"amsgrad": True}, set()),
    "AdamW": ({}, set()),
    **{
        kind: ({}, {"fused"})
        for kind in ("Adamax", "NAdam", "RAdam", "RMSprop", "Rprop", "ASGD", "Adadelta")
    },
}

ROUNDS = 15

SAME = "bit for bit"


def stepper(optimizer: torch.optim.Optimizer, graph: bool) -> Callable[[], object]:
    """A step, or the replay of one that was captured."""
    if not graph:
        return optimizer.step
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        optimizer.step()  # makes the state, outside the graph
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        optimizer.step()
    return captured.replay


def life(
    build: Callable[[list[Any]], torch.optim.Optimizer],
    device: str,
    named: bool,
    graph: bool,
) -> tuple[dict[str, Any], Callable[[], object]]:
    """Steps, a load and another step of one optimizer.

    Args:
        build (Callable): makes the optimizer for parameters or pairs.
        device (str): where the parameters are.
        named (bool): whether the optimizer has names.
        graph (bool): whether steps are captured.

    Returns:
        tuple[dict, Callable]: parameters and state at the end, copied, and what
        takes a step.
    """
    generator = torch.Generator().manual_seed(0)

    def tensor() -> torch.Tensor:
        return torch.randn(32, 8, generator=generator).to(device)

    params = {f"layers.{i}.weight": torch.nn.Parameter(tensor()) for i in range(100)}
    for param in params.values():
        param.grad = tensor()
    given = list(params.items() if named else params.values())
    optimizer = build(given)
    step = stepper(optimizer, graph)
    for _ in range(4):
        step()
    resumed = build(given[::-1] if named else given)
    resumed.load_state_dict(optimizer.state_dict())
    step = stepper(resumed, graph)
    step()
    end = {
        f"{key} of {name}": torch.as_tensor(value).clone()
        for name, param in params.items()
        for key, value in {"value": param.detach(), **resumed.state[param]}.items()
    }
    return end, step


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether values are equal, bit for bit."""
    return one.keys() == other.keys() and all(
        (value.dtype, value.device) == (other[key].dtype, other[key].device)
        and torch.equal(value, other[key])
        for key, value in one.items()
    )


def seconds(step: Callable[[], object]) -> float:
    """The time of a step, the mean of ten, until the GPU is done."""
    synchronize = torch.cuda.synchronize if torch.cuda.is_available() else int
    synchronize()
    start = time.perf_counter()
    for _ in range(10):
        step()
    synchronize()
    return (time.perf_counter() - start) / 10


def compare(kind: str, way: str, device: str) -> str:
    """What is found for an optimizer and an implementation, in a line."""
    options = {"lr": 1e-2, **OPTIMIZERS[kind][0], **WAYS[way]}
    build = partial(getattr(torch.optim, kind), **options)
    try:
        unnamed, named = (
            life(build, device, named, way == "CUDA graph") for named in (False, True)
        )
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not same(unnamed[0], named[0]):
        return "parameters or state differ"
    pairs = [(seconds(unnamed[1]), seconds(named[1])) for _ in range(ROUNDS)]
    ratio = statistics.median(after / before for before, after in pairs)
    times = [statistics.median(one) * 1e6 for one in zip(*pairs)]
    return f"{SAME}; {times[0]:.1f} and {times[1]:.1f} µs, ratio {ratio:.2f}"


def main() -> int:
    """Compare all, and print.

    Returns:
        int: the exit status: 1 if something differs.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    device = parser.parse_args().device
    if not hasattr(torch.optim, "rename_parameters"):
        print(
            f"error: the torch in {torch.__file__} does not have the series; see "
            "benchmarks/README.md.",
            file=sys.stderr,
        )
        return 1
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, {device}; a step without and with names:")
    wrong = False
    for kind, (_, lacks) in OPTIMIZERS.items():
        for way in WAYS:
            if way in lacks or (device == "cpu" and "capturable" in WAYS[way]):
                continue
            found = compare(kind, way, device)
            wrong |= not found.startswith(SAME)
            print(f"{kind:9} {way:11} {found}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
