"""Which third-party optimizer classes there are, and how each is used.

Classes are found in the installed packages, so that a later release of one is
covered, too. Only what cannot be called as ``Class(params)`` is spelled out.
"""

import contextlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch.optim import SGD, AdamW, Optimizer
from training import (
    Batch,
    Build,
    Case,
    Inputs,
    Step,
    closure_step,
    plain_step,
    second_order_step,
)


#: Import names of the packages, and the distributions they are installed from.
PACKAGES = {
    "pytorch_optimizer": "pytorch_optimizer",
    "schedulefree": "schedulefree",
    "timm": "timm",
    "torchao": "torchao",
    "transformers": "transformers",
    "lion_pytorch": "lion-pytorch",
}

#: Classes that are not run, and why.
NOT_RUN: dict[tuple[str, str], str] = {
    ("pytorch_optimizer", "CPUOffloadOptimizer"): "needs a CUDA device",
    ("torchao", "CPUOffloadOptimizer"): "needs a CUDA or XPU device",
    ("transformers", "LayerWiseDummyOptimizer"): "takes no steps",
}

# Wrappers that are no subclasses of torch's Optimizer.
_NO_SUBCLASSES = {
    "CPUOffloadOptimizer",
    "ScheduleFreeWrapper",
    "ScheduleFreeWrapperReference",
}

# Classes for models without weights of three dimensions.
_NO_CONV = {("pytorch_optimizer", "AdaLOMO"), ("pytorch_optimizer", "DeMo")}

# Without these options, the classes have no state.
_OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("pytorch_optimizer", "BSAM"): {"num_data": 30},
    ("pytorch_optimizer", "Ranger21"): {"num_iterations": 20},
    ("pytorch_optimizer", "SGDP"): {"momentum": 0.9},
    ("pytorch_optimizer", "SGDW"): {"momentum": 0.9},
    ("timm", "Lars"): {"momentum": 0.9},
    ("timm", "RMSpropTF"): {"momentum": 0.9},
    ("timm", "SGDP"): {"momentum": 0.9, "lr": 0.01},
    ("timm", "SGDW"): {"momentum": 0.9},
}


def version(package: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(PACKAGES[package])
    except importlib.metadata.PackageNotFoundError:
        return None


def cases(package: str) -> list[Case]:
    """The classes of a package that are run.

    Args:
        package (str): one of :data:`PACKAGES`; it has to be installed.
    """
    found = _FIND[package]()
    return [
        _case(package, name, cls)
        for name, cls in sorted(found.items(), key=lambda item: item[0].lower())
        if (package, name) not in NOT_RUN
    ]


def _case(package: str, name: str, cls: type) -> Case:
    options = _OPTIONS.get((package, name), {})
    build = _BUILDS.get((package, name)) or (
        lambda inputs: cls(inputs.all(), **options)
    )
    conv = (package, name) not in _NO_CONV
    width = 64 if package == "torchao" else 8  # quantizes 4096 elements or more
    return Case(
        package, name, build, _STEPS.get((package, name), plain_step), width, conv
    )


def _classes(module: Any) -> Iterator[tuple[str, type]]:
    """The optimizer classes in a module that its package defines."""
    for value in vars(module).values():
        if (
            inspect.isclass(value)
            and value.__module__.partition(".")[0] == module.__name__.partition(".")[0]
            and (issubclass(value, Optimizer) or value.__name__ in _NO_SUBCLASSES)
            and not value.__name__.startswith("_")
        ):
            yield value.__name__, value


def _find_in(*modules: str) -> Callable[[], dict[str, type]]:
    def find() -> dict[str, type]:
        return {
            name: cls
            for module in modules
            for name, cls in _classes(importlib.import_module(module))
        }

    return find


def _find_in_pytorch_optimizer() -> dict[str, type]:
    optimizer = importlib.import_module("pytorch_optimizer.optimizer")
    offload = importlib.import_module("pytorch_optimizer.optimizer.utils.offload")
    found = {**dict(_classes(optimizer)), **dict(_classes(offload))}
    # An abstract base that the other classes share.
    return {name: cls for name, cls in found.items() if name != "BaseOptimizer"}


def _find_in_lion_pytorch() -> dict[str, type]:
    # Three classes of one name.
    return {
        f"{module}.Lion": importlib.import_module(f"lion_pytorch.{module}").Lion
        for module in ("lion_pytorch", "foreach", "cautious_lion")
    }


def _find_in_timm() -> dict[str, type]:
    _declare_torchvision_operators()
    importlib.import_module("timm.optim")
    importlib.import_module("timm.optim.kron")
    return {
        name: cls
        for module_name, module in list(sys.modules.items())
        if module_name.startswith("timm.optim.")
        for name, cls in _classes(module)
        if cls.__module__ == module_name
    }


def _declare_torchvision_operators() -> None:
    """Let torchvision be imported without its compiled operators.

    timm imports torchvision, whose published wheel has operators for CUDA that a
    torch for CPU cannot load. Its import then stops where it describes two of
    them, which no optimizer uses: it is enough to declare these.
    """
    with contextlib.suppress(RuntimeError):
        importlib.import_module("torchvision")
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    _kept.append(library)
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


# A library's definitions end with it.
_kept: list[Any] = []

_FIND: Mapping[str, Callable[[], dict[str, type]]] = {
    "pytorch_optimizer": _find_in_pytorch_optimizer,
    "schedulefree": _find_in("schedulefree"),
    "timm": _find_in_timm,
    "torchao": _find_in("torchao.optim"),
    "transformers": _find_in("transformers.optimization"),
    "lion_pytorch": _find_in_lion_pytorch,
}


def _get(package: str, name: str) -> Any:
    return _FIND[package]()[name]


def _around_adamw(package: str, name: str, **options: Any) -> Build:
    """A wrapper around an AdamW that is given to it."""
    return lambda inputs: _get(package, name)(AdamW(inputs.all(), lr=0.01), **options)


def _with_base_class(name: str, **options: Any) -> Build:
    """A wrapper that makes its AdamW itself."""
    return lambda inputs: _get("pytorch_optimizer", name)(
        inputs.all(), base_optimizer=AdamW, lr=0.01, **options
    )


def _of_model(name: str, **options: Any) -> Build:
    """A class that takes the model and reads parameters and names from it."""
    return lambda inputs: _get("pytorch_optimizer", name)(inputs.model, **options)


def _matrices_apart(name: str, **options: Any) -> Build:
    """One of the Muon family, which treats matrices and the rest differently."""

    def build(inputs: Inputs) -> Any:
        if options.get("distributed"):
            _one_process()
        matrices = inputs.only(lambda name, param: param.ndim == 2)
        others = inputs.only(lambda name, param: param.ndim != 2)
        return _get("pytorch_optimizer", name)(
            [
                {"params": matrices, "use_muon": True},
                {"params": others, "use_muon": False},
            ]
        )

    return build


def _demo(inputs: Inputs) -> Any:
    _one_process()
    return _get("pytorch_optimizer", "DeMo")(inputs.all())


def _one_process() -> None:
    """Start a process group of this process alone."""
    if not torch.distributed.is_initialized():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)


def _gsam(inputs: Inputs) -> Any:
    module = importlib.import_module("pytorch_optimizer")
    base = AdamW(inputs.all(), lr=0.01)
    schedule = torch.optim.lr_scheduler.StepLR(base, 100)
    rho = module.ProportionScheduler(schedule, max_lr=0.01, max_value=0.05)
    return module.GSAM(inputs.all(), base, inputs.model, rho)


def _gsam_step(optimizer: Any, batch: Batch) -> None:
    optimizer.set_closure(torch.nn.functional.mse_loss, batch.tokens, batch.targets)
    optimizer.step()
    optimizer.update_rho_t()


def _wsam(inputs: Inputs) -> Any:
    wsam = _get("pytorch_optimizer", "WSAM")
    return wsam(inputs.model, inputs.all(), base_optimizer=AdamW, lr=0.01)


def _alig_step(optimizer: Any, batch: Batch) -> None:
    optimizer.step(batch.closure())


def _two_losses_step(optimizer: Any, batch: Batch) -> None:
    outputs = batch.model(batch.tokens)
    errors = (outputs - batch.targets).square()
    optimizer.pc_backward([errors[:, :2].mean(), errors[:, 2:].mean()])
    optimizer.step()


def _fused_step(optimizer: Any, batch: Batch) -> None:
    optimizer.fused_backward(batch.loss(), lr=0.01)


def _fp16_step(optimizer: Any, batch: Batch) -> None:
    optimizer.zero_grad()
    optimizer.backward(batch.loss())
    optimizer.step()


def _around_sgd(name: str) -> Build:
    # They keep their state with that of the optimizer inside, and most of torch's
    # take that for their own: of them all, SGD does not.
    return lambda inputs: _get("schedulefree", name)(
        SGD(inputs.all(), lr=0.01, momentum=0.9)
    )


def _spectral_sphere(inputs: Inputs) -> Any:
    matrices = inputs.only(lambda name, param: param.ndim == 2)
    return _get("pytorch_optimizer", "SpectralSphere")(matrices)


def _lora_rite(inputs: Inputs) -> Any:
    # It takes each two parameters in a row for the factors of one matrix.
    factors = inputs.only(lambda name, _: name in ("first.weight", "second.weight"))
    return _get("pytorch_optimizer", "LoRARite")(factors)


_BUILDS: dict[tuple[str, str], Build] = {
    **{
        ("pytorch_optimizer", name): _around_adamw("pytorch_optimizer", name)
        for name in (
            "Lookahead",
            "Magma",
            "OrthoGrad",
            "PCGrad",
            "SafeFP16Optimizer",
            "ScheduleFreeWrapper",
            "TRAC",
        )
    },
    **{
        ("pytorch_optimizer", name): _with_base_class(name)
        for name in ("FriendlySAM", "LookSAM", "SAM")
    },
    **{
        ("pytorch_optimizer", name): _matrices_apart(name)
        for name in ("AdaGO", "AdaMuon", "Muon", "MuonClip", "NorMuon")
    },
    ("pytorch_optimizer", "DistributedMuon"): _matrices_apart(
        "DistributedMuon", distributed=True
    ),
    ("pytorch_optimizer", "AdaLOMO"): _of_model("AdaLOMO"),
    ("pytorch_optimizer", "LOMO"): _of_model("LOMO"),
    ("pytorch_optimizer", "AdamMini"): _of_model("AdamMini", num_embeds=8, num_heads=2),
    ("pytorch_optimizer", "DeMo"): _demo,
    ("pytorch_optimizer", "GSAM"): _gsam,
    ("pytorch_optimizer", "LoRARite"): _lora_rite,
    ("pytorch_optimizer", "SpectralSphere"): _spectral_sphere,
    ("pytorch_optimizer", "WSAM"): _wsam,
    ("schedulefree", "ScheduleFreeWrapper"): _around_sgd("ScheduleFreeWrapper"),
    ("schedulefree", "ScheduleFreeWrapperReference"): _around_sgd(
        "ScheduleFreeWrapperReference"
    ),
    ("timm", "Lookahead"): _around_adamw("timm", "Lookahead"),
}

_STEPS: dict[tuple[str, str], Step] = {
    **{
        ("pytorch_optimizer", name): closure_step
        for name in ("BSAM", "FriendlySAM", "LookSAM", "SAM", "WSAM")
    },
    **{
        ("schedulefree", name): _alig_step
        for name in (
            "AdamWScheduleFreeClosure",
            "RAdamScheduleFreeClosure",
            "SGDScheduleFreeClosure",
        )
    },
    ("pytorch_optimizer", "AdaHessian"): second_order_step,
    ("pytorch_optimizer", "SophiaH"): second_order_step,
    ("timm", "Adahessian"): second_order_step,
    ("pytorch_optimizer", "AdaLOMO"): _fused_step,
    ("pytorch_optimizer", "LOMO"): _fused_step,
    ("pytorch_optimizer", "AliG"): _alig_step,
    ("pytorch_optimizer", "GSAM"): _gsam_step,
    ("pytorch_optimizer", "PCGrad"): _two_losses_step,
    ("pytorch_optimizer", "SafeFP16Optimizer"): _fp16_step,
}
