"""What parts of PyTorch that build on optimizers need of parameter names.

* :mod:`~torch.optim._param_names.consumers.flat`: LBFGS, whose state spans all
  parameters;
* :mod:`~torch.optim._param_names.consumers.schedulers`: learning rate
  schedulers, with lists that have an entry for each param group;
* :mod:`~torch.optim._param_names.consumers.rekeying`: distributed checkpoints,
  FSDP and ``swap_in_optimizer_params_and_state``, which have other ids for
  parameters;
* :mod:`~torch.optim._param_names.consumers.shards`: ``ZeroRedundancyOptimizer``,
  with an optimizer for some of the parameters on each rank.
"""
