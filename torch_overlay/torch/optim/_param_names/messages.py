"""Say in an error or a warning which parameters differ, and in what."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any


__all__ = [
    "load_error",
    "name_suffix",
    "prefix_hint",
    "quote",
    "state_error",
    "summary",
    "unusable_state",
]

#: How many names an error lists before it gives only their count.
MAX_LISTED = 20

#: What wrappers put into the names of the parameters of a module.
WRAPPER_PREFIXES = (
    "module.",
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
)


def quote(names: Iterable[str], limit: int = MAX_LISTED) -> str:
    """List names in double quotes, the first of them if there are many.

    Args:
        names (iterable of str): the names.
        limit (int): how many are listed at most.

    Returns:
        str: such as ``"a", "b"`` or ``"a", "b" and 7 more``.
    """
    names = list(names)
    listed = ", ".join(f'"{name}"' for name in names[:limit])
    more = len(names) - limit
    return f"{listed} and {more} more" if more > 0 else listed


def summary(names: Sequence[str], limit: int = 3) -> str:
    """Show a list of names in the space of a line, however many there are.

    Args:
        names (sequence of str): the names.
        limit (int): how many are shown if there are more.

    Returns:
        str: such as ``['a', 'b']`` or ``['a', 'b', 'c', ...] (12 names)``.
    """
    if len(names) <= limit:
        return str(list(names))
    return f"[{', '.join(map(repr, names[:limit]))}, ...] ({len(names)} names)"


def load_error(owner: str, problems: Sequence[str]) -> str:
    """The text of an error that lists all that hinders a load.

    Args:
        owner (str): the name of the optimizer's class.
        problems (sequence of str): a full sentence each.

    Returns:
        str: the text, in the form that :meth:`torch.nn.Module.load_state_dict`
        uses.
    """
    return f"Error(s) in loading state_dict for {owner}:\n\t" + "\n\t".join(problems)


def state_error(owner: str, key: Any, error: Exception) -> ValueError:
    """An error that says whose saved state caused another one.

    Args:
        owner (str): the name of the optimizer's class.
        key: the key of the state; None if no single one is to blame.
        error (Exception): what was raised.

    Returns:
        ValueError: for the caller to raise.
    """
    which = "The saved state" if key is None else f'The saved state of "{key}"'
    reason = f"{type(error).__name__}: {error}"
    return ValueError(load_error(owner, [f"{which} cannot be used ({reason})."]))


def unusable_state(
    cls: type[Any],
    attributes: Mapping[str, Any],
    groups: Iterable[dict[str, Any]],
    state: Mapping[Any, Any],
) -> str | None:
    """Find the first parameter whose state an optimizer does not take.

    Args:
        cls (type): the optimizer's class.
        attributes (Mapping): the optimizer's attributes. Its state is set, one
            parameter at a time, on another optimizer with the same ones.
        groups (iterable of dict): param groups with ``param_names``.
        state (Mapping): the state of the parameters that have any.

    Returns:
        str or None: its name; None if no single state is to blame.
    """
    probe: Any = object.__new__(cls)
    probe.__dict__.update(attributes)

    def takes(states: dict[Any, Any], group: dict[str, Any]) -> bool:
        try:
            probe.__setstate__({"state": states, "param_groups": [group]})
        except Exception:
            return False
        return True

    for group in groups:
        for name, param in zip(group["param_names"], group["params"]):
            if param not in state:
                continue
            own = state[param]
            own = dict(own) if isinstance(own, dict) else own
            alone = {**group, "params": [param], "param_names": [name]}
            if not takes({param: own}, alone):
                return str(name) if takes({}, alone) else None
    return None


def name_suffix(groups: Iterable[dict[str, Any]], params: Sequence[Any]) -> str:
    """What an error about some parameters says of their names at its end.

    Args:
        groups (iterable of dict): the param groups that hold the parameters.
        params (sequence of Tensor): the parameters.

    Returns:
        str: such as ``" (parameter 'fc.weight')"``; empty if the groups have no
        names.
    """
    names = [
        repr(name)
        for group in groups
        if "param_names" in group
        for name, param in zip(group["param_names"], group["params"])
        if any(param is p for p in params)
    ]
    if not names:
        return ""
    return f" (parameter{'s' if len(names) > 1 else ''} {', '.join(names)})"


def prefix_hint(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Point out a prefix by which the names on both sides differ.

    Args:
        ours (sequence of str): names that only the optimizer has.
        theirs (sequence of str): names that only the state dict has.

    Returns:
        str or None: a full sentence, or None if no prefix explains the
        difference of at least one name.
    """
    for longer, shorter, place, other in (
        (theirs, ours, "state_dict", "optimizer"),
        (ours, theirs, "optimizer", "state_dict"),
    ):
        prefix = _common_prefix(longer, set(shorter))
        if prefix is not None:
            return (
                f'Names in the {place} have the prefix "{prefix}", which names in the '
                f"{other} do not have."
            )
        wrapper = _common_wrapper(longer, set(shorter))
        if wrapper is not None:
            return (
                f'Names in the {place} contain "{wrapper}", which names in the '
                f"{other} do not contain."
            )
    return None


def _common_prefix(longer: Sequence[str], shorter: set[str]) -> str | None:
    for name in longer[:MAX_LISTED]:
        start = name.find(".") + 1
        while start:
            if name[start:] in shorter:
                return name[:start]
            start = name.find(".", start) + 1
    return None


def _common_wrapper(longer: Sequence[str], shorter: set[str]) -> str | None:
    for name in longer[:MAX_LISTED]:
        for wrapper in WRAPPER_PREFIXES:
            if wrapper in name and name.replace(wrapper, "") in shorter:
                return wrapper
    return None
