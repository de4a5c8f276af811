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
from dataclasses import dataclass
from functools import cached_property
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
    check_unique,
    group_names,
    own_names,
    params_by_name,
)
from torch.optim._param_names.messages import load_error, prefix_hint, quote
from torch.optim._param_names.plain import IDS
from torch.optim._param_names.registry import all_distinct
from torch.optim._param_names.saved import check_form, saved_names, SavedNames
from torch.optim._param_names.shapes import unfit_state


__all__ = ["Match", "match_state_dict"]


@dataclass(eq=False)
class Match:
    """Which part of a saved state dict belongs to which part of an optimizer."""

    #: The saved ids that stand for a parameter of the optimizer.
    ids: Sequence[Hashable]
    #: The parameter of each of them.
    own: Sequence[Tensor]
    #: The new param groups, in the optimizer's order. Their ``params`` are the
    #: optimizer's own lists.
    groups: list[dict[str, Any]]
    #: Param groups with saved ids as their ``params``: their options decide how
    #: the state of these is cast.
    sources: Sequence[dict[str, Any]]
    #: Whether the optimizer has names.
    named: bool
    #: Whether the parameters were matched by name.
    by_name: bool = False
    #: Saved state whose keys are :attr:`ids`, in their order.
    in_order: Mapping[Any, Any] | None = None
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

    @cached_property
    def params(self) -> dict[Hashable, Tensor]:
        """The parameter of each saved id, to be looked up."""
        return dict(zip(self.ids, self.own))

    @cached_property
    def holders(self) -> dict[Hashable, list[dict[Any, Any]]]:
        """See :func:`~torch.optim._param_names.groups.holders`."""
        return holders(self.sources, self.params.keys())


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
    names = own_names(groups)
    if names is None:
        return _match_unnamed(groups, saved_groups, saved_state, strict)
    check_form(saved_groups, saved_state)
    saved = saved_names(saved_groups)
    problems: list[str] = []
    match = None
    if strict:
        match = _match_alike(groups, names, saved_groups, saved, saved_state)
    if match is None:
        check_unique(groups, names)
        match = _match_by_name(
            groups, names, saved_groups, saved, saved_state, strict, problems
        )
    for group, own in zip(match.groups, names):
        group["param_names"] = own
    if problems:
        problems += unfit_state(groups, match.params, saved_state, param_shaped)
        raise ValueError(load_error(owner, problems))
    if match.in_order is None and not saved_state.keys() <= match.params.keys():
        others = [
            k for k in saved_state if k not in match.params and k not in match.ignored
        ]
        check_other_keys(others, set(chain.from_iterable(names)))
    match.param_shaped = param_shaped
    return match


def _match_alike(
    groups: Sequence[dict[str, Any]],
    names: Sequence[Sequence[str]],
    saved_groups: Sequence[dict[str, Any]],
    saved: SavedNames,
    saved_state: Mapping[Any, Any],
) -> Match | None:
    """Match two sides that have the same names in the same groups, without ties.

    What :func:`_match_by_name` would find, in a fraction of the time. None if the
    two sides are not like that.
    """
    theirs = saved.groups
    if theirs is None:
        return None
    params = list(chain.from_iterable(group["params"] for group in groups))
    ids = list(chain.from_iterable(group["params"] for group in saved_groups))
    if len(ids) != len(params) or not all_distinct(params):
        return None
    same_order = theirs == names
    if not (same_order and saved.named):
        by_name = dict(zip(chain.from_iterable(names), params))
        if len(by_name) != len(params):
            return None
        try:
            params = list(map(by_name.__getitem__, chain.from_iterable(theirs)))
        except KeyError:
            return None
    in_order = _are_keys(ids, saved_state)
    # A name stands for one id: saved_names() saw to that, or they are the same.
    if not in_order and len(set(ids)) != len(ids):
        return None
    order: Sequence[int] | None = range(len(groups))
    if not same_order and not len(groups) == len(theirs) == 1:
        saved_in: dict[Hashable, int] = {}
        for index, own in enumerate(theirs):
            saved_in.update(dict.fromkeys(own, index))
        order = same_groups(names, len(theirs), saved_in)
    if order is None:
        return None
    match = _match_groups(groups, saved_groups, ids, params, order)
    match.in_order = saved_state if in_order else None
    return match


def _are_keys(ids: list[Hashable], state: Mapping[Any, Any]) -> bool:
    """Whether the keys of ``state`` are these, in their order."""
    return (
        type(state) is dict
        and len(state) == len(ids)
        # The keys may be anything, such as Tensors, that cannot be compared.
        and IDS.issuperset(map(type, state))
        and list(state) == ids
    )


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
    match = _match_by_position(groups, saved_groups, saved_state, True, strict)
    if saved.problem is not None:
        match.warnings = [f"{saved.problem} {_BY_POSITION}"]
    elif saved.groups is not None:
        match.warnings = [_nothing_in_common(by_name, saved.groups)]
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
    match = _match_by_position(groups, saved_groups, saved_state, False, strict)
    try:
        saved = saved_names(saved_groups)
        problem = saved.problem
        if saved.groups is not None:
            adopted = [
                {"params": group["params"], "param_names": own}
                for group, own in zip(groups, saved.groups)
            ]
            group_names(adopted)
            if match.in_order is None and isinstance(saved_state, Mapping):
                others = [key for key in saved_state if key not in match.params]
                check_other_keys(others, set(chain.from_iterable(saved.groups)))
    except Exception as error:
        # Whatever is wrong with the names does not matter to state without names.
        saved = SavedNames(None, named=False)
        problem = f"The names in the loaded state_dict cannot be used: {error}."
    if problem is not None:
        match.warnings = [f"{problem} The optimizer stays without names."]
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
    saved_state: Mapping[Any, Any],
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
    ids = list(chain.from_iterable(group["params"] for group in saved_groups))
    own = list(chain.from_iterable(group["params"] for group in groups))
    for new, group in zip(new_groups, groups):
        new["params"] = group["params"]
    match = Match(ids, own, list(new_groups), saved_groups, named)
    if IDS.issuperset(map(type, ids)) and _are_keys(ids, saved_state):
        match.in_order = saved_state
    else:
        # Ids that cannot be looked up are an error before the state is read, as ever.
        _ = match.params
    return match


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
    sources = [
        {
            **new,
            "params": [
                pairs.saved_ids[p] for p in new["params"] if p in pairs.saved_ids
            ],
        }
        for new in new_groups
    ]
    return Match(
        list(pairs.params),
        list(pairs.params.values()),
        new_groups,
        sources,
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
    ids, own = list(pairs.params), list(pairs.params.values())
    order = None
    if not pairs.problems:
        in_groups = [
            [pairs.saved_ids[p] for p in group["params"] if p in pairs.saved_ids]
            for group in groups
        ]
        order = same_groups(in_groups, len(saved_groups), pairs.saved_in)
        if order is None:
            sides = (saved_groups, pairs.saved_ids, pairs.saved_in)
            problems.append(groups_differ(groups, names, *sides))
    if problems or order is None:
        return Match(ids, own, [], [], named=True)
    return _match_groups(groups, saved_groups, ids, own, order)


def _match_groups(
    groups: Sequence[dict[str, Any]],
    saved_groups: Sequence[dict[str, Any]],
    ids: Sequence[Hashable],
    own: Sequence[Tensor],
    order: Iterable[int],
) -> Match:
    """Match by name, where each group has the options of one saved group.

    Args:
        ids (sequence): saved ids.
        own (sequence of Tensor): the parameter of each of them.
        order (iterable of int): the index of the saved group for each group.
    """
    copies = copy_options(saved_groups, ids_checked=True)
    new_groups = [copies[index] for index in order]
    for new, group in zip(new_groups, groups):
        new["params"] = group["params"]
    return Match(ids, own, new_groups, saved_groups, named=True, by_name=True)
