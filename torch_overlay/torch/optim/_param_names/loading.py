"""Build the state of an optimizer from the saved state of its parameters."""

import gc
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from torch import Tensor
from torch.optim._param_names.casting import all_stay, casts_step
from torch.optim._param_names.matching import Match
from torch.optim._param_names.messages import load_error, state_error
from torch.optim._param_names.shapes import fits, unfit_state


__all__ = ["build_state"]


#: How many parameters' state is looked at together: enough to make it worth while,
#: and few enough to stay in the cache of the processor.
BATCH = 128


def build_state(
    saved_state: Mapping[Any, Any],
    match: Match,
    cast: Callable[..., Any],
    owner: str = "Optimizer",
    *,
    in_bulk: bool = False,
) -> defaultdict[Any, Any]:
    """Give each parameter the state that was saved for it.

    Args:
        saved_state (Mapping): ``state`` of a state dict. It is not changed.
        match (Match): what belongs to what.
        cast (callable): called with a parameter, its saved state, its saved id
            and a list of its saved group; returns a copy of the state that the
            parameter can have.
        owner (str): the name of the optimizer's class, for errors.
        in_bulk (bool): whether ``cast`` makes what
            :func:`~torch.optim._param_names.casting.all_stay` says, so that it
            need not be called for state that only has to be copied.

    Returns:
        defaultdict: the state of each parameter that has a saved one, and
        entries of other keys.

    Raises:
        ValueError: if the state of a named optimizer has a wrong shape or
            cannot be cast.
        Exception: what ``cast`` raises, if the optimizer is not named.
    """
    if match.ignored:
        saved_state = {k: v for k, v in saved_state.items() if k not in match.ignored}
    state: defaultdict[Any, Any] = defaultdict(dict)

    def cast_each(entries: Iterable[tuple[Hashable, Any]]) -> None:
        for key, value in entries:
            param = match.params.get(key)
            if param is None:
                # A copy, since __setstate__ may convert what it finds in it.
                state[key] = dict(value) if type(value) is dict else value
                continue
            shaped = match.param_shaped
            if shaped and not fits(value, param, shaped):
                unfit = unfit_state(match.groups, match.params, saved_state, shaped)
                raise ValueError(load_error(owner, unfit))
            try:
                state[param] = cast(param, value, key, match.holders[key])
            except Exception as error:
                if match.named:
                    raise state_error(owner, key, error) from error
                raise

    step_cast = casts_step(match.sources)
    # What is made here is no garbage, and to search it again and again takes long.
    # torch.distributed.checkpoint.state_dict does the same.
    collecting = gc.isenabled()
    gc.disable()
    try:
        if not in_bulk or step_cast is None or type(saved_state) is not dict:
            cast_each(saved_state.items())
            return state
        keys, values = iter(saved_state), iter(saved_state.values())
        own: Iterator[Tensor | None] = (
            iter(match.own)
            if match.in_order is saved_state
            else map(match.params.get, saved_state)
        )
        while states := list(islice(values, BATCH)):
            ids, params = list(islice(keys, BATCH)), list(islice(own, BATCH))
            if all_stay(
                states, params, param_shaped=match.param_shaped, step_cast=step_cast
            ):
                state.update(zip(params, map(dict.copy, states)))
            else:
                cast_each(zip(ids, states))
    finally:
        if collecting:
            gc.enable()
    return state
