"""Parameter names in optimizers and in their state dicts.

An optimizer is *named* if every one of its param groups has ``param_names``,
one for each entry of ``params``. The modules, in the order in which parameters
and their state pass through them:

* :mod:`~torch.optim._param_names.constructing` reads the parameters that a user
  passes;
* :mod:`~torch.optim._param_names.saving` gives each parameter its key in a state
  dict;
* on a load, :mod:`~torch.optim._param_names.saved` reads the saved names,
  :mod:`~torch.optim._param_names.matching` decides which saved state is for
  which parameter, :mod:`~torch.optim._param_names.options` which saved options
  apply, :mod:`~torch.optim._param_names.entries` whether state fits its
  parameter, and :mod:`~torch.optim._param_names.loading` builds the new state;
* :mod:`~torch.optim._param_names.renaming` renames saved parameters.

:mod:`~torch.optim._param_names.names` and
:mod:`~torch.optim._param_names.messages` are shared.
:mod:`~torch.optim._param_names.consumers` is for other parts of PyTorch.

All functions work on lists and dicts. Only :class:`torch.optim.Optimizer` and
the wrappers in :mod:`torch.distributed.optim` change an optimizer.
"""

from torch.optim._param_names.constructing import (
    GroupChecker,
    is_mapping,
    pairs_from_mapping,
    params_of_group,
    read_group,
    read_params,
)
from torch.optim._param_names.entries import entries_of, StateEntries
from torch.optim._param_names.loading import (
    build_state,
    incompatible_keys,
    keep_names,
    undone_on_error,
)
from torch.optim._param_names.matching import Match, match_state_dict
from torch.optim._param_names.messages import name_suffix, summary
from torch.optim._param_names.names import is_named, named_params
from torch.optim._param_names.options import check_options
from torch.optim._param_names.renaming import rename_parameters
from torch.optim._param_names.saved import check_type
from torch.optim._param_names.saving import pack, pack_state, param_keys


__all__ = [
    "GroupChecker",
    "Match",
    "StateEntries",
    "build_state",
    "check_options",
    "check_type",
    "entries_of",
    "incompatible_keys",
    "is_mapping",
    "is_named",
    "keep_names",
    "match_state_dict",
    "name_suffix",
    "named_params",
    "pack",
    "pack_state",
    "pairs_from_mapping",
    "param_keys",
    "params_of_group",
    "read_group",
    "read_params",
    "rename_parameters",
    "summary",
    "undone_on_error",
]
