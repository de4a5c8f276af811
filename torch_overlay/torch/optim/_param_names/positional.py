"""Give a state dict with names its positional form."""

from typing import Any

from torch.optim._param_names.keys import indices


__all__ = ["without_names"]


def without_names(state_dict: dict[str, Any]) -> dict[str, Any]:
    """Replace the ids in a state dict by indices, and leave out the names.

    For callers that have names of their own, such as distributed checkpoints,
    and match parameters by their position in the optimizer.

    Args:
        state_dict (dict): the state dict of an optimizer, whatever its ids, with
            the parameters in the optimizer's order. It is not changed.

    Returns:
        dict: a new state dict, as an optimizer without names has it. Its values
        are not copied. A dict without ``param_groups`` is returned as it is.
    """
    if "param_groups" not in state_dict:
        return state_dict
    groups = state_dict["param_groups"]
    index = indices([group["params"] for group in groups])
    return {
        **state_dict,
        "state": {index.get(key, key): v for key, v in state_dict["state"].items()},
        "param_groups": [
            {
                key: [index[i] for i in value] if key == "params" else value
                for key, value in group.items()
                if key != "param_names"
            }
            for group in groups
        ],
    }
