"""Build the state of an optimizer from the saved state of its parameters."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from torch.optim._param_names.matching import Match
from torch.optim._param_names.messages import load_error, state_error
from torch.optim._param_names.shapes import fits, unfit_state


__all__ = ["build_state"]


def build_state(
    saved_state: Mapping[Any, Any],
    match: Match,
    cast: Callable[..., Any],
    owner: str = "Optimizer",
) -> defaultdict[Any, Any]:
    """Give each parameter the state that was saved for it.

    Args:
        saved_state (Mapping): ``state`` of a state dict. It is not changed.
        match (Match): what belongs to what.
        cast (callable): called with a parameter, its saved state, its saved id
            and a list of its saved group; returns a copy of the state that the
            parameter can have.
        owner (str): the name of the optimizer's class, for errors.

    Returns:
        defaultdict: the state of each parameter that has a saved one, and
        entries of other keys.

    Raises:
        ValueError: if the state of a named optimizer has a wrong shape or
            cannot be cast.
        Exception: what ``cast`` raises, if the optimizer is not named.
    """
    state: defaultdict[Any, Any] = defaultdict(dict)
    shaped = match.param_shaped
    for key, value in saved_state.items():
        param = match.params.get(key)
        if param is None:
            if key not in match.ignored:
                # A copy, since __setstate__ may convert what it finds in it.
                state[key] = dict(value) if type(value) is dict else value
            continue
        if shaped and not fits(value, param, shaped):
            raise ValueError(
                load_error(
                    owner,
                    unfit_state(match.groups, match.params, saved_state, shaped),
                )
            )
        try:
            state[param] = cast(param, value, key, match.holders[key])
        except Exception as error:
            if match.named:
                raise state_error(owner, key, error) from error
            raise
    return state
