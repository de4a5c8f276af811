"""Texts of errors and warnings about parameters."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any


__all__ = [
    "load_error",
    "name_suffix",
    "prefix_hint",
    "quote",
    "state_error",
    "summary",
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
    """List names in double quotes.

    Args:
        names (iterable of str): the names.
        limit (int): how many to list at most.

    Returns:
        str: such as ``"a", "b"`` or ``"a", "b" and 7 more``.
    """
    names = list(names)
    listed = ", ".join(f'"{name}"' for name in names[:limit])
    more = len(names) - limit
    return f"{listed} and {more} more" if more > 0 else listed


def summary(names: Any, limit: int = 3) -> str:
    """Show a list of names in one line.

    Args:
        names (sequence of str): the names. Anything else is shown as it is.
        limit (int): how many to show at most.

    Returns:
        str: such as ``['a', 'b']`` or ``['a', 'b', 'c', ...] (12 names)``.
    """
    if not isinstance(names, (list, tuple)) or len(names) <= limit:
        return str(names)
    return f"[{', '.join(map(repr, names[:limit]))}, ...] ({len(names)} names)"


def load_error(owner: str, problems: Sequence[str]) -> str:
    """The text of an error of a load, in the form that ``nn.Module`` uses.

    Args:
        owner (str): the name of the optimizer's class.
        problems (sequence of str): full sentences.
    """
    return f"Error(s) in loading state_dict for {owner}:\n\t" + "\n\t".join(problems)


def state_error(owner: str, key: Any, error: Exception) -> ValueError:
    """An error that names the saved state which caused another error.

    Args:
        owner (str): the name of the optimizer's class.
        key: the key of the state; None if it is unknown.
        error (Exception): the other error.
    """
    which = "The saved state" if key is None else f'The saved state of "{key}"'
    reason = f"{type(error).__name__}: {error}"
    return ValueError(load_error(owner, [f"{which} cannot be used ({reason})."]))


def name_suffix(groups: Iterable[dict[str, Any]], params: Sequence[Any]) -> str:
    """The names of parameters, to end an error message with.

    Args:
        groups (iterable of dict): the param groups that hold the parameters.
        params (sequence of Tensor): the parameters.

    Returns:
        str: such as ``" (parameter 'fc.weight')"``; empty if the groups have no
        names.
    """
    wanted = {id(param) for param in params}
    names = [
        repr(name)
        for group in groups
        if "param_names" in group
        for name, param in zip(group["param_names"], group["params"])
        if id(param) in wanted
    ]
    if not names:
        return ""
    listed = ", ".join(names[:MAX_LISTED])
    if len(names) > MAX_LISTED:
        listed += f" and {len(names) - MAX_LISTED} more"
    return f" (parameter{'s' if len(names) > 1 else ''} {listed})"


def prefix_hint(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """Find a part of the names, such as a prefix, that explains why they differ.

    Args:
        ours (sequence of str): names that only the optimizer has.
        theirs (sequence of str): names that only the state dict has.

    Returns:
        str or None: full sentences; None if no part explains a name.
    """
    for longer, shorter in ((ours, set(theirs)), (theirs, set(ours))):
        for name in longer[:MAX_LISTED]:
            for part, rest in _without_one_part(name):
                if rest in shorter:
                    parts = (part, "") if longer is ours else ("", part)
                    return _part_hint(*parts)
    wrapped = {_unwrapped(name)[1]: name for name in theirs}
    for name in ours[:MAX_LISTED]:
        part, rest = _unwrapped(name)
        if rest in wrapped:
            return _part_hint(part, _unwrapped(wrapped[rest])[0])
    return None


def _without_one_part(name: str) -> Iterator[tuple[str, str]]:
    """Each part that can be left out of a name, and the rest."""
    parts = name.split(".")
    for start in range(len(parts) - 1):
        for end in range(start + 1, len(parts)):
            part = ".".join(parts[start:end]) + "."
            yield part, ".".join(parts[:start] + parts[end:])


def _unwrapped(name: str) -> tuple[str, str]:
    """The parts of a name that wrappers have added, and the rest."""
    parts = [part for part in name.split(".") if f"{part}." in WRAPPER_PREFIXES]
    rest = [part for part in name.split(".") if f"{part}." not in WRAPPER_PREFIXES]
    return "".join(f"{part}." for part in parts), ".".join(rest)


def _part_hint(own: str, their: str) -> str:
    own, their = (f'have "{part}"' if part else "have nothing" for part in (own, their))
    return (
        f"Names in the state_dict {their} where names in the optimizer {own}. "
        "torch.optim.rename_parameters() can rename them."
    )
