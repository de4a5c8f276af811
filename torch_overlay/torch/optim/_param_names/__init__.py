"""Parameter names in optimizers and in their state dicts.

An optimizer is *named* if every one of its param groups has ``param_names``,
one for each entry of ``params``. What happens to the names, in the order in
which an optimizer meets them:

* :mod:`~torch.optim._param_names.reading`: read them from what the user passes;
* :mod:`~torch.optim._param_names.registry`: keep them unique across param
  groups while groups are added;
* :mod:`~torch.optim._param_names.keys`: key a state dict by them;
* :mod:`~torch.optim._param_names.saved`: read them from a saved state dict;
* :mod:`~torch.optim._param_names.matching`: decide which saved entry belongs
  to which parameter;
* :mod:`~torch.optim._param_names.groups`: decide which saved param group
  belongs to which, and whose options are taken;
* :mod:`~torch.optim._param_names.shapes`: check that saved state has the shape
  of its parameter;
* :mod:`~torch.optim._param_names.loading`: build an optimizer's state from what
  was saved;
* :mod:`~torch.optim._param_names.casting`: find what of it need not be cast;
* :mod:`~torch.optim._param_names.flat`: reorder state that spans all
  parameters;
* :mod:`~torch.optim._param_names.renaming`: rename the parameters of a saved
  state dict;
* :mod:`~torch.optim._param_names.positional`: take the names out of a state
  dict;
* :mod:`~torch.optim._param_names.translation`: translate between them and the
  names that others give to parameters;
* :mod:`~torch.optim._param_names.shards`: give an optimizer that holds some of
  the parameters its share of names and state;
* :mod:`~torch.optim._param_names.messages`: say in an error what differs;
* :mod:`~torch.optim._param_names.plain`: the types that need no closer look.

Everything here is a plain function over lists and dicts that neither keeps nor
changes an optimizer. :class:`torch.optim.Optimizer`, and the optimizers of
:mod:`torch.distributed.optim` that wrap others, call the functions that are
listed in ``__all__`` and are the only places where an optimizer is changed.
"""

from torch.optim._param_names.flat import align_flat_state
from torch.optim._param_names.keys import (
    is_named,
    named_params,
    pack,
    pack_state,
    param_keys,
)
from torch.optim._param_names.loading import build_state
from torch.optim._param_names.matching import Match, match_state_dict
from torch.optim._param_names.messages import (
    name_suffix,
    state_error,
    summary,
    unusable_state,
)
from torch.optim._param_names.positional import (
    with_indices,
    without_names,
    without_own_names,
)
from torch.optim._param_names.reading import (
    pairs_from_mapping,
    params_of_group,
    read_group,
    read_params,
    to_be_checked,
)
from torch.optim._param_names.registry import all_distinct, Registry, registry_for
from torch.optim._param_names.renaming import rename_parameters
from torch.optim._param_names.saved import check_type
from torch.optim._param_names.shards import (
    check_shards,
    in_order,
    local_state,
    local_state_dict,
    name_shard,
    other_state,
)
from torch.optim._param_names.translation import (
    align_names,
    name_indices,
    state_keys,
    to_indices,
    to_own_names,
)


__all__ = [
    "Match",
    "Registry",
    "align_flat_state",
    "align_names",
    "all_distinct",
    "build_state",
    "check_shards",
    "check_type",
    "in_order",
    "is_named",
    "local_state",
    "local_state_dict",
    "match_state_dict",
    "name_indices",
    "name_shard",
    "name_suffix",
    "named_params",
    "other_state",
    "pack",
    "pack_state",
    "pairs_from_mapping",
    "param_keys",
    "params_of_group",
    "read_group",
    "read_params",
    "registry_for",
    "rename_parameters",
    "state_error",
    "state_keys",
    "summary",
    "to_be_checked",
    "to_indices",
    "to_own_names",
    "unusable_state",
    "with_indices",
    "without_names",
    "without_own_names",
]
