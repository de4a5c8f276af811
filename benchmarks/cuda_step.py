"""The series on a machine with an NVIDIA GPU: the same steps, and how long they take.

Run ``python benchmarks/cuda_step.py`` where a torch for CUDA is installed, of the base
release or of one with a folder in ``patches/``. It lays the patches on ``torch.optim``
over links to the installed torch in ``build/cuda``, changes nothing that is installed,
and needs no network. Then, for each optimizer and implementation (foreach, fused,
capturable, CUDA graphs), it compares an optimizer with names to one without, bit for
bit: parameters and state after steps, and after loading what the other one saved. It
prints the time of a step of both, and of the installed torch. ``--test`` runs
``test/optim`` there, too, on CUDA and on the CPU.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import port_series

from tools import layout, series, view
from tools.errors import ToolError


WORK = layout.BUILD / "cuda"

#: The implementations, by the arguments that choose them.
WAYS: dict[str, dict[str, Any]] = {
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"foreach": True, "capturable": True},
    "CUDA graph": {"foreach": True, "capturable": True},
}

#: The optimizers, their arguments, and the implementations that they have.
OPTIMIZERS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "SGD": ({"momentum": 0.9}, ("single", "foreach", "fused")),
    "Adagrad": ({}, ("single", "foreach")),
    "Adam": ({"amsgrad": True}, tuple(WAYS)),
    "AdamW": ({}, tuple(WAYS)),
    "Adamax": ({}, ("single", "foreach", "capturable", "CUDA graph")),
    "NAdam": ({}, ("single", "foreach", "capturable", "CUDA graph")),
    "RAdam": ({}, ("single", "foreach", "capturable", "CUDA graph")),
    "RMSprop": ({}, ("single", "foreach", "capturable", "CUDA graph")),
    "Rprop": ({}, ("single", "foreach", "capturable", "CUDA graph")),
    "ASGD": ({}, ("single", "foreach", "capturable", "CUDA graph")),
    "Adadelta": ({}, ("single", "foreach", "capturable", "CUDA graph")),
}

PARAMETERS = 100
STEPS = 4


def lay(into: Path = WORK) -> tuple[str, list[str]]:
    """Lay the series over links to the installed torch.

    Args:
        into (Path): the folder to be put on ``PYTHONPATH``. It is replaced.

    Returns:
        tuple[str, list[str]]: the release, and the patches that were left out.

    Raises:
        ToolError: if torch is not installed, or a patch does not apply to it.
    """
    try:
        distribution = importlib.metadata.distribution("torch")
    except importlib.metadata.PackageNotFoundError as error:
        raise ToolError("torch is not installed for this Python.") from error
    installed = Path(str(distribution.locate_file("torch"))).resolve()
    release = distribution.version.partition("+")[0]
    every = series.patches(release)
    patches = [
        patch
        for patch in port_series.portable(every)
        if all(
            (installed.parent / path).is_file()
            for path in series.touched_files([patch])
        )
    ]
    shutil.rmtree(into, ignore_errors=True)
    patched = into / "patched"
    series.copy_files(installed.parent, patched, series.touched_files(patches))
    series.apply(patches, patched, exact=False)
    changes: view.Changes = {
        path.relative_to(patched / "torch").as_posix(): path
        for path in (patched / "torch").rglob("*.py")
    }
    for name, file in series.overlay_files().items():
        changes[name.removeprefix("torch/")] = file
    view._mirror(installed, into / "view" / "torch", changes)
    return release, [patch.name for patch in every if patch not in patches]


def child(device: str, patched: bool) -> Iterator[dict[str, Any]]:
    """Compare optimizers with and without names, and time their steps.

    Args:
        device (str): ``"cuda"``, or ``"cpu"`` for those that it has.
        patched (bool): whether names are loaded by.

    Yields:
        dict: what was found for an optimizer and an implementation.
    """
    import torch

    torch.set_num_threads(1)
    for kind, (arguments, ways) in OPTIMIZERS.items():
        for way in ways:
            if device == "cpu" and "capturable" in WAYS[way]:
                continue
            options = {**arguments, **WAYS[way]}
            graph = way == "CUDA graph"
            try:
                ends, seconds = {}, {}
                for named in (False, True):
                    optimizer, params, step = _prepare(
                        kind, options, device, named, graph
                    )
                    for _ in range(STEPS):
                        step()
                    if patched:
                        optimizer = _reloaded(kind, options, optimizer, params, named)
                        step = _stepper(optimizer, graph)
                        step()
                    ends[named] = _state(optimizer, params)
                    seconds[named] = _time(step, device)
                problem = _difference(ends[False], ends[True])
            except Exception as error:
                problem, seconds = f"{type(error).__name__}: {error}", {}
            yield {
                "optimizer": kind,
                "way": way,
                "problem": problem,
                "unnamed": seconds.get(False),
                "named": seconds.get(True),
            }
    if device == "cuda":
        torch.cuda.synchronize()


def _prepare(
    kind: str, options: dict[str, Any], device: str, named: bool, graph: bool
) -> tuple[Any, dict[str, Any], Callable[[], object]]:
    import torch

    generator = torch.Generator().manual_seed(0)

    def tensor() -> Any:
        return torch.randn(32, 8, generator=generator).to(device)

    params = {
        f"layers.{i}.weight": torch.nn.Parameter(tensor()) for i in range(PARAMETERS)
    }
    for param in params.values():
        param.grad = tensor()
    given = list(params.items() if named else params.values())
    optimizer = getattr(torch.optim, kind)(given, lr=1e-2, **options)
    return optimizer, params, _stepper(optimizer, graph)


def _stepper(optimizer: Any, graph: bool) -> Callable[[], object]:
    """A step, or the replay of one that was captured."""
    import torch

    if not graph:
        return optimizer.step  # type: ignore[no-any-return]
    stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        optimizer.step()  # makes the state, outside the graph
    torch.cuda.current_stream().wait_stream(stream)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        optimizer.step()
    return captured.replay


def _reloaded(
    kind: str,
    options: dict[str, Any],
    optimizer: Any,
    params: dict[str, Any],
    named: bool,
) -> Any:
    """A new optimizer for the same parameters, which has loaded what this one saves.

    With names, its parameters come in the opposite order.
    """
    import torch

    given = list(params.items())[::-1] if named else list(params.values())
    other = getattr(torch.optim, kind)(given, lr=1e-2, **options)
    other.load_state_dict(optimizer.state_dict())
    return other


def _state(optimizer: Any, params: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, param in params.items():
        values = {"parameter": param.detach(), **optimizer.state[param]}
        for key, value in values.items():
            # Steps that are timed go on with the same tensors.
            copied = value.clone() if hasattr(value, "clone") else value
            found[f"{key} of {name}"] = copied
    return found


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    import torch

    if before.keys() != after.keys():
        return "the state has other keys"
    for key, value in before.items():
        other = after[key]
        if isinstance(value, torch.Tensor):
            same = (
                value.dtype == other.dtype
                and value.device == other.device
                and torch.equal(value, other)
            )
        else:
            same = value == other
        if not same:
            return f"{key} differs"
    return ""


def _time(step: Callable[[], object], device: str) -> float:
    from torch.utils.benchmark import Timer

    # It waits for the GPU before and after each block.
    timer = Timer("step()", globals={"step": step})
    return float(timer.blocked_autorange(min_run_time=0.1).median)


def _run_child(environment: dict[str, str], *arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    if done.returncode != 0:
        raise ToolError(f"The steps ended with exit status {done.returncode}.")
    return [json.loads(line) for line in done.stdout.splitlines()]


def table(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> str:
    """What was found, a line for each optimizer and implementation."""
    stock = {(row["optimizer"], row["way"]): row for row in before}
    lines = [
        "| optimizer | implementation | named equals unnamed | stock, µs | unnamed | named |",
        "|---|---|---|---|---|---|",
    ]
    for row in after:
        times = (
            stock[row["optimizer"], row["way"]]["unnamed"],
            row["unnamed"],
            row["named"],
        )
        shown = " | ".join("-" if t is None else f"{t * 1e6:.1f}" for t in times)
        verdict = row["problem"] or "bit for bit"
        lines.append(f"| {row['optimizer']} | {row['way']} | {verdict} | {shown} |")
    return "\n".join(lines)


def main() -> int:
    """Lay the series over torch, compare, and print.

    Returns:
        int: the exit status: 1 if something differs.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--test", action="store_true", help="run test/optim, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what is found")
    parser.add_argument("--child", choices=("stock", "patched"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        for row in child(options.device, options.child == "patched"):
            print(json.dumps(row), flush=True)
        return 0
    variables = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    try:
        release, left_out = lay()
        patched = {**variables, "PYTHONPATH": str(WORK / "view")}
        print(f"PyTorch {release}; without {', '.join(left_out) or 'nothing'}")
        before = _run_child(variables, "stock", "--device", options.device)
        after = _run_child(patched, "patched", "--device", options.device)
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(before, after))
    if options.json:
        found = {"release": release, "stock": before, "patched": after}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    wrong = any(row["problem"] for row in after)
    if options.test:
        tests = [sys.executable, str(layout.ROOT / "test" / "test_optim.py")]
        wrong |= subprocess.run(tests, env=patched).returncode != 0
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
