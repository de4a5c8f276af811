"""Match a saved state dict against the parameters of an optimizer.

=========  =====================  ==========  ==========================
optimizer  state dict             matched by  names afterwards
=========  =====================  ==========  ==========================
unnamed    indexed                position    none
unnamed    annotated or named     position    the state dict's, if valid
named      indexed                position    the optimizer's
named      annotated or named     name        the optimizer's
=========  =====================  ==========  ==========================

The kinds of state dict are those of
:class:`~torch.optim._param_names.saved.SavedNames`.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim._param_names.groups import (
    agreed_groups,
    copy_options,
    groups_differ,
    holders,
    same_groups,
)
from torch.optim._param_names.keys import (
    check_other_keys,
    group_names,
    params_by_name,
)
from torch.optim._param_names.messages import load_error, prefix_hint, quote
from torch.optim._param_names.saved import check_form, saved_names, SavedNames
from torch.optim._param_names.shapes import unfit_state


__all__ = ["Match", "match_state_dict"]


class Match(NamedTuple):
    """Which part of a saved state dict belongs to which part of an optimizer."""

    #: The parameter of each saved id.
    params: dict[Hashable, Tensor]
    #: The new param groups, in the optimizer's order. Their ``params`` are the
    #: optimizer's own lists.
    groups: list[dict[str, Any]]
    #: A list of the one group whose options decide how a saved id's state is
    #: cast, with a set of saved ids as its ``params``.
    holders: dict[Hashable, list[dict[Any, Any]]]
    #: Whether the optimizer has names.
    named: bool
    #: Whether the parameters were matched by name.
    by_name: bool = False
    #: The entries of a parameter's state that must have the parameter's shape.
    param_shaped: Collection[str] = ()
    #: Whether what the state dict does not have stays as it is.
    partial: bool = False
    #: The saved ids of parameters that the optimizer does not have.
    ignored: Collection[Hashable] = ()
    #: Names that only the optimizer has.
    missing: Sequence[str] = ()
    #: Names that only the state dict has.
    unexpected: Sequence[str] = ()
    #: What the user should be warned of, a full sentence each.
    warnings: Sequence[str] = ()


def match_state_dict(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    saved_state: Mapping[Any, Any],
    *,
    strict: bool = True,
    param_shaped: Collection[str] = (),
    owner: str = "Optimizer",
) -> Match:
    """Match a saved state dict against the param groups of an optimizer.

    Nothing that is passed is changed.

    Args:
        groups (sequence of dict): the optimizer's param groups.
        saved_groups (sequence of dict): ``param_groups`` of the state dict.
        saved_state (Mapping): ``state`` of the state dict.
        strict (bool): whether both sides must have the same names in the same
            groups where they are matched by name.
        param_shaped (collection of str): the entries of a parameter's state
            that have the parameter's shape. Not checked for an optimizer
            without names.
        owner (str): the name of the optimizer's class, for errors.

    Returns:
        Match: what belongs to what.

    Raises:
        ValueError: if the groups, the names or the shapes on both sides differ.
        TypeError, KeyError: if the state dict does not have its form.
    """
    names = group_names(groups)
    if names is None:
        return _match_unnamed(groups, saved_groups, saved_state, strict)
    check_form(saved_groups, saved_state)
    saved = saved_names(saved_groups)
    problems: list[str] = []
    match = _match_in_order(groups, names, saved_groups, saved) if strict else None
    if match is None:
        match = _match_by_name(
            groups, names, saved_groups, saved, saved_state, strict, problems
        )
    for group, own in zip(match.groups, names):
        group["param_names"] = own
    if problems:
        problems += unfit_state(groups, match.params, saved_state, param_shaped)
        raise ValueError(load_error(owner, problems))
    if not saved_state.keys() <= match.params.keys():
        others = [
            k for k in saved_state if k not in match.params and k not in match.ignored
        ]
        check_other_keys(others, set(chain.from_iterable(names)))
    return match._replace(param_shaped=param_shaped)


def _match_in_order(
    groups: Sequence[dict[str, Any]],
    names: Sequence[Sequence[str]],
    saved_groups: Sequence[dict[str, Any]],
    saved: SavedNames,
) -> Match | None:
    """Match two sides that have the same names in the same order, without ties.

    What :func:`_match_by_name` would find, in a fraction of the time.
    """
    if saved.groups != names:
        return None
    match = _match_by_position(groups, saved_groups, True, True)
    num_params = sum(map(len, names))
    if len(match.params) != num_params:  # a saved id stands there twice
        return None
    if len(set(map(id, match.params.values()))) != num_params:
        return None
    return match._replace(by_name=True)


def _match_by_name(
    groups: Sequence[dict[str, Any]],
    names: Sequence[Sequence[str]],
    saved_groups: Sequence[dict[str, Any]],
    saved: SavedNames,
    saved_state: Mapping[Any, Any],
    strict: bool,
    problems: list[str],
) -> Match:
    """Match by name, or by position if the state dict has no names to match by.

    Adds to ``problems`` what differs. The result is then good only for finding
    further problems.
    """
    by_name = params_by_name(groups, names)
    if saved.groups is not None and (
        saved.named
        or not strict
        or not by_name.keys().isdisjoint(chain.from_iterable(saved.groups))
        or list(map(len, names)) != list(map(len, saved.groups))
    ):
        pairs = _pair(by_name, saved_groups, saved.groups, saved_state)
        problems += pairs.problems
        if saved.named:
            problems += _state_without_group(by_name, pairs.saved_in, saved_state)
        if strict:
            return _match_strictly(groups, names, saved_groups, pairs, problems)
        return _match_common(groups, saved_groups, pairs)
    match = _match_by_position(groups, saved_groups, True, strict)
    if saved.problem is not None:
        return match._replace(warnings=[f"{saved.problem} {_BY_POSITION}"])
    if saved.groups is not None:
        return match._replace(warnings=[_nothing_in_common(by_name, saved.groups)])
    return match


_BY_POSITION = "Its state is loaded by position, as releases before this one do."


def _nothing_in_common(ours: Collection[str], theirs: Iterable[Sequence[str]]) -> str:
    hint = prefix_hint(list(ours), list(chain.from_iterable(theirs)))
    return (
        "None of the param_names of the loaded state_dict is the name of a parameter "
        f"of the optimizer. {hint + ' ' if hint else ''}{_BY_POSITION}"
    )


def _match_unnamed(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    saved_state: Mapping[Any, Any],
    strict: bool,
) -> Match:
    """Match by position, as ever, and adopt the names of the state dict."""
    match = _match_by_position(groups, saved_groups, False, strict)
    try:
        saved = saved_names(saved_groups)
        problem = saved.problem
        if saved.groups is not None:
            adopted = [
                {"params": group["params"], "param_names": own}
                for group, own in zip(groups, saved.groups)
            ]
            group_names(adopted)
            if isinstance(saved_state, Mapping):
                others = [key for key in saved_state if key not in match.params]
                check_other_keys(others, set(chain.from_iterable(saved.groups)))
    except Exception as error:
        # Whatever is wrong with the names does not matter to state without names.
        saved = SavedNames(None, named=False)
        problem = f"The names in the loaded state_dict cannot be used: {error}."
    if problem is not None:
        warning = f"{problem} The optimizer stays without names."
        match = match._replace(warnings=[warning])
    for index, (new, old) in enumerate(zip(match.groups, groups)):
        if saved.groups is not None:
            new["param_names"] = saved.groups[index]
        elif "param_names" in old:
            new["param_names"] = old["param_names"]
        else:
            new.pop("param_names", None)
    return match


def _match_by_position(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    named: bool,
    strict: bool,
) -> Match:
    hint = "" if strict else _NEEDS_NAMES
    new_groups = copy_options(saved_groups)
    if len(groups) != len(saved_groups):
        raise ValueError(
            f"loaded state dict has a different number of parameter groups{hint}"
        )
    if any(len(g["params"]) != len(s["params"]) for g, s in zip(groups, saved_groups)):
        raise ValueError(
            "loaded state dict contains a parameter group "
            f"that doesn't match the size of optimizer's group{hint}"
        )
    params = dict(
        zip(
            chain.from_iterable(group["params"] for group in saved_groups),
            chain.from_iterable(group["params"] for group in groups),
        )
    )
    for new, group in zip(new_groups, groups):
        new["params"] = group["params"]
    cast_by = holders(
        saved_groups, [group["params"] for group in saved_groups], params.keys()
    )
    return Match(params, list(new_groups), cast_by, named)


_NEEDS_NAMES = (
    ". strict=False needs parameter names on both sides to find out which parameters "
    "they share"
)


class _Pairs(NamedTuple):
    """The parameters of the two sides that have a name in common."""

    #: The parameter of each saved id.
    params: dict[Hashable, Tensor]
    #: The saved id of each parameter.
    saved_ids: dict[Tensor, Hashable]
    #: The index of the saved group of each saved id.
    saved_in: dict[Hashable, int]
    #: The name of each parameter that only the optimizer has.
    missing: dict[Tensor, str]
    #: The name of each saved id that only the state dict has.
    unexpected: dict[Hashable, str]
    #: Why it cannot be said what belongs to what, a full sentence each.
    problems: list[str]


def _pair(
    by_name: dict[str, Tensor],
    saved_groups: Sequence[dict[str, Any]],
    their_names: Sequence[Sequence[str]],
    saved_state: Mapping[Any, Any],
) -> _Pairs:
    """Pair saved ids with parameters that have the same name.

    Tied parameters have several names on either side, and any of them will do,
    as long as both sides agree on which parameters are the same.
    """
    params: dict[Hashable, Tensor] = {}
    saved_ids: dict[Tensor, Hashable] = {}
    saved_in: dict[Hashable, int] = {}
    unexpected: dict[Hashable, str] = {}
    in_several_groups: list[str] = []
    tied_there: list[str] = []
    tied_here: list[str] = []
    for index, (saved_group, theirs) in enumerate(zip(saved_groups, their_names)):
        for param_id, name in zip(saved_group["params"], theirs):
            if saved_in.setdefault(param_id, index) != index:
                in_several_groups.append(name)
            param = by_name.get(name)
            if param is None:
                unexpected[param_id] = name
                continue
            if params.setdefault(param_id, param) is not param:
                tied_there.append(name)
            first_id = saved_ids.setdefault(param, param_id)
            if first_id != param_id and param_id in saved_state:
                if first_id in saved_state:
                    tied_here.append(name)
                saved_ids[param] = param_id
    for param_id in [i for i in unexpected if i in params]:
        del unexpected[param_id]
    missing: dict[Tensor, str] = {}
    if len(saved_ids) != len(by_name):
        for name, param in by_name.items():
            if param not in saved_ids:
                missing.setdefault(param, name)

    problems = []
    if in_several_groups:
        problems.append(
            "In more than one param group of the state_dict: "
            f"{quote(in_several_groups)}."
        )
    if tied_there:
        problems.append(
            "Saved as the same parameter as another one, but not the same as that in "
            f"the optimizer: {quote(tied_there)}."
        )
    if tied_here:
        problems.append(
            "Saved apart from another parameter, but the same as that in the "
            f"optimizer: {quote(tied_here)}."
        )
    return _Pairs(params, saved_ids, saved_in, missing, unexpected, problems)


def _state_without_group(
    by_name: Mapping[str, Tensor],
    saved_in: Collection[Hashable],
    saved_state: Mapping[Any, Any],
) -> list[str]:
    """Say which state is there, but in no param group, as if a group was lost."""
    found = [key for key in saved_state if key in by_name and key not in saved_in]
    if not found:
        return []
    return [
        f"In no param group of the state_dict, though it has state: {quote(found)}."
    ]


def _match_common(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    pairs: _Pairs,
) -> Match:
    """Match what both sides have."""
    new_groups = agreed_groups(groups, saved_groups, pairs.saved_ids, pairs.saved_in)
    ids = [
        [pairs.saved_ids[p] for p in group["params"] if p in pairs.saved_ids]
        for group in groups
    ]
    return Match(
        pairs.params,
        new_groups,
        holders(new_groups, ids, pairs.params.keys()),
        named=True,
        by_name=True,
        partial=True,
        ignored=pairs.unexpected.keys(),
        missing=list(pairs.missing.values()),
        unexpected=list(pairs.unexpected.values()),
    )


def _match_strictly(
    groups: Sequence[dict[str, Any]],
    names: Sequence[Sequence[str]],
    saved_groups: Sequence[dict[str, Any]],
    pairs: _Pairs,
    problems: list[str],
) -> Match:
    """Match two sides that have the same names in the same groups.

    Adds to ``problems`` what differs. The result is then good only for finding
    further problems.
    """
    missing, unexpected = list(pairs.missing.values()), list(pairs.unexpected.values())
    if missing:
        problems.append(f"Missing key(s) in state_dict: {quote(missing)}.")
    if unexpected:
        problems.append(f"Unexpected key(s) in state_dict: {quote(unexpected)}.")
    hint = prefix_hint(missing, unexpected) if missing and unexpected else None
    if hint:
        problems.append(hint)
    sides = (saved_groups, pairs.saved_ids, pairs.saved_in)
    order = None if pairs.problems else same_groups(groups, *sides)
    if order is None and not pairs.problems:
        problems.append(groups_differ(groups, names, *sides))
    if problems or order is None:
        return Match(pairs.params, [], {}, named=True)
    copies = copy_options(saved_groups)
    new_groups = [copies[index] for index in order]
    for new, group in zip(new_groups, groups):
        new["params"] = group["params"]
    cast_by = holders(
        saved_groups, [group["params"] for group in saved_groups], pairs.params.keys()
    )
    return Match(pairs.params, new_groups, cast_by, named=True, by_name=True)
