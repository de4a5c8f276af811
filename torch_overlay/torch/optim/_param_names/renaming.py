"""Rename the parameters of a saved state dict."""

from collections.abc import Callable, Mapping
from typing import Any

from torch.optim._param_names.keys import check_other_keys
from torch.optim._param_names.messages import quote
from torch.optim._param_names.saved import check_form, check_type, saved_names


__all__ = ["rename_parameters"]


def rename_parameters(
    state_dict: dict[str, Any], rename: Mapping[str, str] | Callable[[str], str]
) -> dict[str, Any]:
    r"""Rename the parameters of an optimizer's saved state dict.

    Use it to load a state dict into an optimizer whose parameters have other
    names, for example because a wrapper put a prefix before them.

    Args:
        state_dict (dict): what :meth:`Optimizer.state_dict` of an optimizer with
            parameter names returned, in this release or in one from 2.6 on. It is
            not changed.
        rename (Mapping or Callable): the new name of each old one. Names that a
            mapping does not have stay as they are.

    Returns:
        dict: a new state dict in which ``state``, ``params`` and ``param_names``
        have the new names. Its tensors are those of ``state_dict``, not copies.

    Raises:
        ValueError: If ``state_dict`` has no parameter names, or if two parameters
            would have the same name, or a parameter and another entry of ``state``.
        TypeError: If a new name is not a str, or ``state_dict`` is no state dict.
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
    groups, state = state_dict["param_groups"], state_dict["state"]
    check_form(groups, state)
    saved = saved_names(groups)
    if saved.groups is None:
        raise ValueError(
            saved.problem or "the state_dict has no parameter names to be renamed"
        )
    new_names: dict[str, str] = {}
    old_names: dict[str, str] = {}
    clashing: dict[str, None] = {}
    for name in (name for own in saved.groups for name in own):
        if name in new_names:
            continue
        new = rename(name) if callable(rename) else rename.get(name, name)
        if not isinstance(new, str):
            raise TypeError(
                f'the new name of the parameter "{name}" should be of type str, but it '
                f"is {new!r}"
            )
        new_names[name] = new
        if old_names.setdefault(new, name) != name:
            clashing[new] = None
    if clashing:
        raise ValueError(
            f"more than one parameter would be named {quote(clashing)} after renaming"
        )
    check_other_keys(
        [key for key in state if not (saved.named and key in new_names)], old_names
    )

    new_groups = []
    for group, own in zip(groups, saved.groups):
        new_group = dict(group)
        if saved.named:
            new_group["params"] = [new_names[name] for name in own]
        if "param_names" in group:
            # In a named state dict these may be other names of the same parameters.
            new_group["param_names"] = [
                new_names.get(name, name) for name in group["param_names"]
            ]
        new_groups.append(new_group)
    new_state = {
        new_names[key] if saved.named and key in new_names else key: value
        for key, value in state.items()
    }
    return {**state_dict, "state": new_state, "param_groups": new_groups}
