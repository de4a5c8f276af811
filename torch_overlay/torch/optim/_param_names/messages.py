"""Say in an error or a warning which parameters differ, and in what."""

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


def summary(names: Any, limit: int = 3) -> str:
    """Show a list of names in the space of a line, however many there are.

    Args:
        names (sequence of str): the names. Anything else is shown as it is.
        limit (int): how many are shown if there are more.

    Returns:
        str: such as ``['a', 'b']`` or ``['a', 'b', 'c', ...] (12 names)``.
    """
    if not isinstance(names, (list, tuple)) or len(names) <= limit:
        return str(names)
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


def name_suffix(groups: Iterable[dict[str, Any]], params: Sequence[Any]) -> str:
    """What an error about some parameters says of their names at its end.

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
    """Point out a part by which the names on both sides differ.

    Args:
        ours (sequence of str): names that only the optimizer has.
        theirs (sequence of str): names that only the state dict has.

    Returns:
        str or None: full sentences, or None if no single part explains the
        difference of at least one name.
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
    """Each part of a name that could be left out, and what is left then."""
    parts = name.split(".")
    for start in range(len(parts) - 1):
        for end in range(start + 1, len(parts)):
            part = ".".join(parts[start:end]) + "."
            yield part, ".".join(parts[:start] + parts[end:])


def _unwrapped(name: str) -> tuple[str, str]:
    """The parts of a name that wrappers put there, and what is left without them."""
    parts = [part for part in name.split(".") if f"{part}." in WRAPPER_PREFIXES]
    rest = [part for part in name.split(".") if f"{part}." not in WRAPPER_PREFIXES]
    return "".join(f"{part}." for part in parts), ".".join(rest)


def _part_hint(own: str, their: str) -> str:
    own, their = (f'have "{part}"' if part else "have nothing" for part in (own, their))
    return (
        f"Names in the state_dict {their} where names in the optimizer {own}. "
        "torch.optim.rename_parameters() can rename them."
    )
