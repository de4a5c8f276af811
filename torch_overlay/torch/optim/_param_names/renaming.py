"""Rename the parameters of a saved state dict, or give them names."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from torch.optim._param_names.messages import quote
from torch.optim._param_names.names import check_other_keys
from torch.optim._param_names.saved import check_type, read_state_dict


__all__ = ["rename_parameters", "with_ids"]


def rename_parameters(
    state_dict: dict[str, Any],
    rename: Mapping[Any, str] | Callable[[str], str] | Iterable[str],
) -> dict[str, Any]:
    r"""Rename the parameters of an optimizer's saved state dict.

    Use it to load a state dict into an optimizer whose parameters have other
    names, for example because a wrapper put a prefix before them; or to give
    names to a state dict that was saved without any.

    Args:
        state_dict (dict): what :meth:`Optimizer.state_dict` returned, in any
            release. It is not changed.
        rename (Mapping, Callable or iterable of str): If the state dict has
            names, the new name of each old one; names that a mapping does not
            have stay as they are. If it has none, a name for each parameter:
            names in the order in which the parameters were given to the
            optimizer, or a mapping from ids (``0``, ``1``, ...).

    Returns:
        dict: a new state dict in which ``state``, ``params`` and ``param_names``
        have the new names. Its tensors are those of ``state_dict``, not copies.

    Raises:
        ValueError: If two parameters would have the same name, or a parameter and
            another entry of ``state``; or if there is not one name for each
            parameter of a state dict without names.
        TypeError: If a new name is not a str, ``rename`` is none of these forms, or
            ``state_dict`` is not a state dict.
        KeyError: If ``state_dict`` lacks one of its entries.

    Example::

        >>> # xdoctest: +SKIP
        >>> saved = torch.load("optimizer.pt", weights_only=True)
        >>> saved = torch.optim.rename_parameters(
        ...     saved, lambda name: name.removeprefix("module.")
        ... )
        >>> optimizer.load_state_dict(saved)
    """
    check_type(state_dict)
    groups, state, saved, _ = read_state_dict(state_dict, needs_groups=True)
    new_names: dict[Any, Any]
    if saved.groups is None:
        new_names = _names_for_ids(groups, rename, saved.problem)
    else:
        new_names = _renamed(saved.groups, rename)
    old_names: dict[str, Hashable] = {}
    clashing: dict[str, None] = {}
    for old, new in new_names.items():
        if not isinstance(new, str):
            raise TypeError(
                f"the new name of the parameter {_shown(old)} should be of type str, but "
                f"it is {new!r}"
            )
        if old_names.setdefault(new, old) != old:
            clashing[new] = None
    if clashing:
        raise ValueError(
            f"more than one parameter would be named {quote(clashing)} after renaming"
        )
    annotated = saved.groups is not None and not saved.named
    # Saved keys of parameters' state, and the new ones
    keys: dict[Any, Any] = {} if annotated else new_names
    check_other_keys([key for key in state if key not in keys], old_names)
    renamed = with_ids(state_dict, keys)
    for group in renamed["param_groups"]:
        if saved.groups is None:
            group["param_names"] = list(group["params"])
        elif "param_names" in group:
            # In a named state dict these may be other names of the same parameters.
            group["param_names"] = [
                new_names.get(name, name) for name in group["param_names"]
            ]
    return renamed


def with_ids(state_dict: Mapping[str, Any], ids: Mapping[Any, Any]) -> dict[str, Any]:
    """Replace the ids in a state dict.

    Args:
        state_dict (Mapping): a state dict, perhaps without ``param_groups``. It
            is not changed.
        ids (Mapping): the new one of each id. Others stay as they are.

    Returns:
        dict: a new state dict. Its groups are new, other values are not copied.
    """
    replaced = {
        **state_dict,
        "state": {ids.get(key, key): v for key, v in state_dict["state"].items()},
    }
    if "param_groups" in state_dict:
        replaced["param_groups"] = [
            {**group, "params": [ids.get(i, i) for i in group["params"]]}
            for group in state_dict["param_groups"]
        ]
    return replaced


def _renamed(names: Iterable[Sequence[str]], rename: Any) -> dict[str, Any]:
    """The new name of each name."""
    if not callable(rename) and not isinstance(rename, Mapping):
        raise TypeError(
            "the state_dict has parameter names, so rename should be a mapping from them "
            f"to new ones, or a function, but got {type(rename).__name__}"
        )
    unique = dict.fromkeys(name for group in names for name in group)
    if callable(rename):
        return {name: rename(name) for name in unique}
    return {name: rename.get(name, name) for name in unique}


def _names_for_ids(
    groups: Sequence[dict[str, Any]], rename: Any, problem: str | None
) -> dict[Hashable, Any]:
    """The name for each id of a state dict without names."""
    ids = list(dict.fromkeys(i for group in groups for i in group["params"]))
    if isinstance(rename, Mapping):
        differing = list(rename.keys() ^ set(ids))
        if differing:
            raise ValueError(
                f"the state_dict has {len(ids)} parameters without names, so rename "
                "should be a mapping from their ids to names, but these ids are in only "
                f"one of the two: {', '.join(map(repr, differing[:10]))}"
            )
        return {param_id: rename[param_id] for param_id in ids}
    if isinstance(rename, (str, bytes)) or not isinstance(rename, Iterable):
        if callable(rename):
            raise ValueError(
                (f"{problem} " if problem else "")
                + "The state_dict has no parameter names to be renamed. Please give it "
                "names: pass a list of them, in the order of the parameters, or a "
                "mapping from ids"
            )
        raise TypeError(
            "rename should be a mapping, a function, or a list of names, but got "
            + type(rename).__name__
        )
    names = list(rename)
    if len(names) != len(ids):
        raise ValueError(
            "there should be a name for each parameter of the state_dict, but got "
            f"{len(names)} names for {len(ids)} parameters"
        )
    return dict(zip(ids, names))


def _shown(key: Hashable) -> str:
    return f'"{key}"' if isinstance(key, str) else repr(key)
