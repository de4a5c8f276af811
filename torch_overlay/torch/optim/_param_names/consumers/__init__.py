"""Parameter names for parts of PyTorch that build on optimizers.

* :mod:`~torch.optim._param_names.consumers.flat`: LBFGS, whose state spans all
  parameters;
* :mod:`~torch.optim._param_names.consumers.schedulers`: learning rate
  schedulers, which keep a list entry per param group;
* :mod:`~torch.optim._param_names.consumers.rekeying`: distributed checkpoints,
  FSDP and ``swap_in_optimizer_params_and_state``, which have their own ids for
  parameters;
* :mod:`~torch.optim._param_names.consumers.shards`: ``ZeroRedundancyOptimizer``,
  whose ranks each optimize some of the parameters.
"""
