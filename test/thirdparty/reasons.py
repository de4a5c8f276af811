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
        "The class, or its base `BaseOptimizer`, overrides `load_state_dict`: after "
        "torch has loaded by name, it takes integer tensors, strings, lists and what "
        "is below them (FAdam, FlashAdamW: all tensors) once more from the file, and "
        "pairs the parameters by position. The errors below follow from that; "
        "where two parameters' entries have the same form, the wrong one is taken "
        "without an error, on stock torch, too. If the names in the checkpoint's "
        "groups are put in the optimizer's order before the load (`group['params']` "
        "and `group['param_names']`; `state` stays as it is), position and name are "
        "the same, and the run goes on bit-equal.",
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
        "As before, and it draws random numbers for one parameter after another.",
        {"pytorch_optimizer": ("Kron",)},
        by_name=False,
        by_order=True,
    ),
    Reason(
        "It draws random numbers for one parameter after another, so that each gets "
        "others in another order, with or without a checkpoint. The state lands by "
        "name.",
        {"pytorch_optimizer": ("AdaHessian", "BSAM"), "timm": ("Kron",)},
        by_order=True,
    ),
    Reason(
        "It has a random generator of its own that it does not save: on stock torch, "
        "too, a resumed run ends elsewhere than one that goes on, in any order. The "
        "state lands by name.",
        {"timm": ("Adahessian",)},
        by_order=True,
    ),
    Reason(
        "It sums over all parameters in their order (norms, step sizes, projections), "
        "so that the last bits are others in another order, with or without a "
        "checkpoint. The state lands by name.",
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
        "A wrapper: the state of the optimizer inside is keyed and loaded by name, but "
        "the wrapper saves its own tensors under positions or in a list, and loads "
        "them so. Its order has to stay (Magma also draws random numbers for one "
        "parameter after another).",
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
        "A wrapper whose `state_dict()` has a dict in which keys that are strings are "
        "its own and integers are the parameters'. With names, it refuses its own "
        "checkpoint, in the same order, too, with an error before anything is "
        "changed. On stock torch, where names are no keys, it loads it: this is the one "
        "class that does worse with the patches, and only if it is given names.",
        {"pytorch_optimizer": ("TRAC",)},
        by_name=False,
        only_patched=True,
    ),
    Reason(
        "It takes the model, makes its param groups without names, and so is unnamed; "
        "AdaLOMO keeps its state by the model's names itself.",
        {"pytorch_optimizer": ("AdaLOMO", "AdamMini", "LOMO")},
        keyed=False,
        by_name=False,
    ),
)


def reason(package: str, name: str) -> Reason | None:
    """The reason that is known for a class."""
    found = [r for r in REASONS if name in r.classes.get(package, ())]
    return found[0] if found else None
