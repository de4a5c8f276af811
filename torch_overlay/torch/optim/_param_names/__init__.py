"""Parameter names in optimizers and in their state dicts.

An optimizer is *named* if every one of its param groups has ``param_names``,
one for each entry of ``params``. The modules, in the order in which parameters
and their state pass through them:

* a user gives parameters to an optimizer:
  :mod:`~torch.optim._param_names.constructing`;
* the optimizer saves its state:
  :mod:`~torch.optim._param_names.saving`;
* it loads what was saved:
  :mod:`~torch.optim._param_names.saved` reads the names,
  :mod:`~torch.optim._param_names.matching` decides which saved state is for
  which parameter, :mod:`~torch.optim._param_names.options` from which saved
  group the options come, :mod:`~torch.optim._param_names.entries` whether state
  is fit for its parameter, and :mod:`~torch.optim._param_names.loading` builds
  the new state;
* a user renames saved parameters:
  :mod:`~torch.optim._param_names.renaming`.

They share :mod:`~torch.optim._param_names.names` and
:mod:`~torch.optim._param_names.messages`. What parts of PyTorch need that build
on optimizers is in :mod:`~torch.optim._param_names.consumers`.

All functions work on lists and dicts and do not keep or change an optimizer.
:class:`torch.optim.Optimizer`, and the optimizers of
:mod:`torch.distributed.optim` that wrap others, are the only places where an
optimizer is changed.
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
