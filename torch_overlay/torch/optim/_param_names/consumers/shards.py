"""Split names and state between an optimizer and its shards.

For optimizers that expose all parameters and have a local optimizer for some of
them on each rank, such as
:class:`torch.distributed.optim.ZeroRedundancyOptimizer`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim._param_names.entries import incomplete_state, misshapen_state
from torch.optim._param_names.matching import Match
from torch.optim._param_names.messages import load_error
from torch.optim._param_names.names import is_named
from torch.optim._param_names.saving import param_keys


__all__ = [
    "check_shards",
    "local_state",
    "local_state_dict",
    "name_shard",
    "sort_state",
    "state_without_param",
]


def name_shard(
    local_groups: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]]
) -> None:
    """Set the ``param_names`` of a shard's param groups.

    Args:
        local_groups (sequence of dict): param groups with some of the
            parameters. They are changed.
        groups (sequence of dict): the param groups with all parameters. If they
            have no names, nothing happens.

    Raises:
        ValueError, TypeError: if the names in ``groups`` cannot be used.
    """
    if is_named(groups):
        names = param_keys(groups)
        for group in local_groups:
            group["param_names"] = [names[id(param)] for param in group["params"]]


def sort_state(
    state: Mapping[Any, Any], groups: Sequence[dict[str, Any]]
) -> dict[Any, Any]:
    """Sort state collected from shards.

    Args:
        state (Mapping): the state by key, and other entries.
        groups (sequence of dict): the param groups with all parameters.

    Returns:
        dict: the state of the parameters, in their order, then the others.
    """
    keys: Mapping[int, Any] = param_keys(groups)
    order = [keys[id(param)] for group in groups for param in group["params"]]
    return {**{key: state[key] for key in order if key in state}, **state}


def local_state(
    local_groups: Sequence[dict[str, Any]],
    state: Mapping[Any, Any],
    match: Match,
) -> list[tuple[Tensor, Any]]:
    """The part of a saved state that belongs to a shard.

    Args:
        local_groups, state, match: as in :func:`local_state_dict`.

    Returns:
        list of (Tensor, Any): parameters of the shard and their saved state,
        which is not copied.
    """
    own = {id(param) for group in local_groups for param in group["params"]}
    return [
        (match.params[key], value)
        for key, value in state.items()
        if key in match.params and id(match.params[key]) in own
    ]


def local_state_dict(
    local_groups: Sequence[dict[str, Any]],
    state: Mapping[Any, Any],
    match: Match,
) -> dict[str, Any]:
    """The part of a saved state dict that belongs to a shard.

    Args:
        local_groups (sequence of dict): the shard's param groups, as many as
            there are with all parameters.
        state (Mapping): ``state`` of the state dict.
        match (Match): which saved id stands for which parameter.

    Returns:
        dict: a state dict for the shard's optimizer, with its keys and in its
        order. The state is not copied.
    """
    keys: Mapping[int, Any] = param_keys(local_groups)
    new_groups = []
    for local, new in zip(local_groups, match.groups):
        group = {k: v for k, v in new.items() if k not in ("params", "param_names")}
        group["params"] = [keys[id(param)] for param in local["params"]]
        if "param_names" in local:
            group["param_names"] = list(local["param_names"])
        new_groups.append(group)
    own = local_state(local_groups, state, match)
    return {
        "state": {keys[id(param)]: value for param, value in own},
        "param_groups": new_groups,
    }


def state_without_param(state: Mapping[Any, Any], match: Match) -> dict[Any, Any]:
    """The entries of a saved state that belong to no parameter, not copied."""
    return {
        key: value
        for key, value in state.items()
        if key not in match.params and key not in match.ignored
    }


def check_shards(
    groups: Sequence[dict[str, Any]],
    state: Mapping[Any, Any],
    match: Match,
    shards: Sequence[Sequence[dict[str, Any]]],
    *,
    spans_params: bool,
    owner: str,
) -> None:
    """Check on every rank that all shards can load their saved state.

    If only one rank failed, the others would wait for it in the next step.

    Args:
        groups (sequence of dict): the param groups with all parameters.
        state (Mapping): ``state`` of the state dict.
        match (Match): which saved id stands for which parameter.
        shards (sequence of sequences of dict): the param groups of each rank.
        spans_params (bool): whether a shard keeps the state of all its parameters
            under the first of them.
        owner (str): the name of the optimizer's class, for errors.

    Raises:
        ValueError: if a shard cannot.
    """
    problems = misshapen_state(groups, match.params, state, match.entries)
    if not problems:
        saved = {param: state[i] for i, param in match.params.items() if i in state}
        problems = incomplete_state(match.groups, saved, match.entries)
    if spans_params:
        # The order of the parameters and the number of ranks determine the shards.
        # There are as many parameters with state as ranks.
        all_params = [p for group in groups for p in group["params"]]
        saved_order = [i for i in dict.fromkeys(match.ids) if i in match.params]
        in_shards = [
            [p for group in shard for p in group["params"]] for shard in shards
        ]
        first = {id(params[0]) for params in in_shards if params}
        found = {id(match.params[i]) for i in saved_order if i in state}
        if found and (
            found != first
            or [id(match.params[i]) for i in saved_order] != [*map(id, all_params)]
        ):
            problems.append(
                "The saved state spans the parameters of a rank, so that it can be "
                "loaded only on as many ranks as it was saved on, with the parameters "
                "in the saved order."
            )
    if problems:
        raise ValueError(load_error(owner, problems))
