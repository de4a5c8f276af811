"""Why a class cannot be resumed in another order, found by reading its code.

A class that falls short of a check without a reason here fails the run, and so
does one that has a reason and needs none any more.
"""

from typing import NamedTuple


class Reason(NamedTuple):
    """Something that keeps classes from a check.

    Attributes:
        text (str): what it is.
        classes (dict): the classes by package.
        keyed (bool): whether ``state_dict()`` is keyed by name.
        by_name (bool): whether all of the saved state lands by name.
        aligned (bool): whether the run goes on bit-equal if the names in the
            checkpoint are put in the optimizer's order before it is loaded.
        by_order (bool): whether parameters in another order end elsewhere, on stock
            torch, too, and without a checkpoint.
        only_patched (bool): whether stock torch does better with names.
    """

    text: str
    classes: dict[str, tuple[str, ...]]
    keyed: bool = True
    by_name: bool = True
    aligned: bool = False
    by_order: bool = False
    only_patched: bool = False


REASONS = (
    Reason(
        "It, or its base `BaseOptimizer`, overrides `load_state_dict`: after torch has "
        "loaded by name, it reads integer tensors, strings and lists (FAdam, FlashAdamW: "
        "all tensors) again, by position. On stock torch, too, entries of equal form go "
        "to the wrong parameter without an error. It is bit-equal if `params` and "
        "`param_names` in the file are put in the optimizer's order first (`state` stays).",
        {
            "pytorch_optimizer": (
                "AdaFactor",
                "Adalite",
                "CAME",
                "Conda",
                "DASH",
                "EmoFact",
                "FAdam",
                "FlashAdamW",
                "SaRA",
                "Shampoo",
                "SM3",
                "SOAP",
                "SPAM",
                "SPlus",
            )
        },
        by_name=False,
        aligned=True,
    ),
    Reason(
        "The same, and it draws random numbers parameter by parameter.",
        {"pytorch_optimizer": ("Kron",)},
        by_name=False,
        by_order=True,
    ),
    Reason(
        "It draws random numbers parameter by parameter: another order gives others, with "
        "or without a checkpoint. The state loads by name.",
        {"pytorch_optimizer": ("AdaHessian", "BSAM"), "timm": ("Kron",)},
        by_order=True,
    ),
    Reason(
        "It does not save its random generator: no resumed run ends as one that goes on, "
        "on stock torch, too. The state loads by name.",
        {"timm": ("Adahessian",)},
        by_order=True,
    ),
    Reason(
        "It sums over all parameters: another order changes the last bits, with or without "
        "a checkpoint. The state loads by name.",
        {
            "pytorch_optimizer": (
                "AliG",
                "DAdaptAdam",
                "DAdaptAdan",
                "GSAM",
                "PCGrad",
                "Prodigy",
                "WSAM",
            ),
            "timm": ("Lamb",),
        },
        by_order=True,
    ),
    Reason(
        "A wrapper: the state of the optimizer inside loads by name, its own tensors by "
        "position. Keep the order. (Magma draws random numbers as above, too.)",
        {
            "pytorch_optimizer": (
                "Lookahead",
                "Magma",
                "SafeFP16Optimizer",
                "ScheduleFreeWrapper",
            )
        },
        by_name=False,
    ),
    Reason(
        "A wrapper that takes `str` keys in its `state_dict()` for its own, integers for "
        "parameters. With names, it refuses its own checkpoint, in any order, and changes "
        "nothing. No other class does worse than on stock torch: build it without names.",
        {"pytorch_optimizer": ("TRAC",)},
        by_name=False,
        only_patched=True,
    ),
    Reason(
        "It takes the model and makes unnamed groups, which load by position. (AdaLOMO keys "
        "its state by the model's names itself.)",
        {"pytorch_optimizer": ("AdaLOMO", "AdamMini", "LOMO")},
        keyed=False,
        by_name=False,
    ),
)


def reason(package: str, name: str) -> Reason | None:
    """The reason that is known for a class."""
    found = [r for r in REASONS if name in r.classes.get(package, ())]
    return found[0] if found else None
