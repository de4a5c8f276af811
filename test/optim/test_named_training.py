# Owner(s): ["module: optimizer", "module: LrScheduler"]

"""Schedulers, gradient scalers and averaged models beside named optimizers."""

import copy
from typing import Any

from _common import (
    build,
    in_groups,
    make_params,
    names_of,
    OptimTestCase,
    options_by_name,
    saved,
    set_values,
    shuffled,
    state_by_name,
    train,
    values,
    without_names,
)

import torch
from torch.amp import GradScaler
from torch.nn import Parameter
from torch.optim import Adam, lr_scheduler, SGD, swa_utils
from torch.testing._internal.common_optimizers import optim_db
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
    subtest,
)


#: How each scheduler is made. Where it can, it treats two param groups differently.
SCHEDULERS = {
    "LambdaLR": lambda optimizer: lr_scheduler.LambdaLR(
        optimizer, [lambda step: 0.9**step] * len(optimizer.param_groups)
    ),
    "MultiplicativeLR": lambda optimizer: lr_scheduler.MultiplicativeLR(
        optimizer, [lambda step: 0.9] * len(optimizer.param_groups)
    ),
    "StepLR": lambda optimizer: lr_scheduler.StepLR(optimizer, 2, 0.5),
    "MultiStepLR": lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [1, 4], 0.5),
    "ConstantLR": lambda optimizer: lr_scheduler.ConstantLR(optimizer, 0.5, 4),
    "LinearLR": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.5, total_iters=4),
    "ExponentialLR": lambda optimizer: lr_scheduler.ExponentialLR(optimizer, 0.7),
    "SequentialLR": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [
            lr_scheduler.LinearLR(optimizer, 0.5, total_iters=2),
            lr_scheduler.ExponentialLR(optimizer, 0.7),
        ],
        [2],
    ),
    "PolynomialLR": lambda optimizer: lr_scheduler.PolynomialLR(optimizer, 9),
    "CosineAnnealingLR": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, 4),
    "ChainedScheduler": lambda optimizer: lr_scheduler.ChainedScheduler(
        [
            lr_scheduler.ConstantLR(optimizer, 0.5, 4),
            lr_scheduler.ExponentialLR(optimizer, 0.7),
        ]
    ),
    "ReduceLROnPlateau": lambda optimizer: lr_scheduler.ReduceLROnPlateau(
        optimizer, patience=0
    ),
    "CyclicLR": lambda optimizer: lr_scheduler.CyclicLR(
        optimizer, _lrs(optimizer), 0.1, step_size_up=2
    ),
    "CosineAnnealingWarmRestarts": lambda optimizer: (
        lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4)
    ),
    "OneCycleLR": lambda optimizer: lr_scheduler.OneCycleLR(
        optimizer, [10 * lr for lr in _lrs(optimizer)], total_steps=9
    ),
    "SWALR": lambda optimizer: swa_utils.SWALR(optimizer, 0.05, anneal_epochs=4),
}


def without_saved_groups(state_dict: dict[str, Any]) -> dict[str, Any]:
    """A scheduler's state dict without what it says of names, and those inside."""
    kept = {k: v for k, v in state_dict.items() if k != "_saved_groups"}
    if "_schedulers" in kept:
        kept["_schedulers"] = [*map(without_saved_groups, kept["_schedulers"])]
    return kept


INFOS = [info for info in optim_db if info.optim_cls in (Adam, SGD)]


def _lrs(optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


class TestNamedSchedulers(OptimTestCase):
    def _make(self, info, name, named=True, order=None, reverse_groups=False):
        params = make_params(info, order=order)
        groups = in_groups(info, params)
        if reverse_groups:
            groups.reverse()
        optimizer = build(info, groups if named else without_names(groups))
        own_names = copy.deepcopy(names_of(optimizer))
        scheduler = SCHEDULERS[name](optimizer)
        self.assertEqual(names_of(optimizer), own_names)
        return params, optimizer, scheduler

    def _train(self, info, run, steps):
        params, optimizer, scheduler = run
        for number in steps:
            train(info, optimizer, params, [number])
            if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
                scheduler.step(1.0)
            else:
                scheduler.step()

    def _results(self, run) -> dict[str, Any]:
        params, optimizer, scheduler = run
        params = dict(sorted(params.items()))
        return {
            "values": values(params),
            "state": state_by_name(optimizer, params),
            "options": [
                sorted(options_by_name(optimizer, params)[name].items(), key=str)
                for name in params
            ],
        }

    def _saved(self, scheduler) -> dict[str, Any]:
        return copy.deepcopy(without_saved_groups(scheduler.state_dict()))

    def test_all_schedulers_are_here(self):
        found = {
            name
            for module in (lr_scheduler, swa_utils)
            for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, lr_scheduler.LRScheduler)
        }
        self.assertEqual(found - {"LRScheduler", "_LRScheduler"}, set(SCHEDULERS))

    @parametrize("info", [subtest(info, info.name) for info in INFOS])
    @parametrize("name", list(SCHEDULERS))
    def test_as_without_names(self, info, name):
        named = self._make(info, name)
        own_names = copy.deepcopy(names_of(named[1]))
        unnamed = self._make(info, name, named=False)
        first = _lrs(named[1])
        for steps in (range(3), range(3, 6)):
            self._train(info, named, steps)
            self._train(info, unnamed, steps)
            self.assert_same(self._results(named), self._results(unnamed))
            self.assert_same(self._saved(named[2]), self._saved(unnamed[2]))
        self.assertNotEqual(_lrs(named[1]), first)
        self.assertEqual(names_of(named[1]), own_names)

    @parametrize("info", [subtest(info, info.name) for info in INFOS])
    @parametrize("name", list(SCHEDULERS))
    @parametrize("reverse_groups", [False, True])
    def test_resumed_in_another_order(self, info, name, reverse_groups):
        run = self._make(info, name)
        self._train(info, run, range(3))
        reached = values(run[0])
        files = saved(run[1]), copy.deepcopy(run[2].state_dict())

        self._train(info, run, range(3, 6))
        order = shuffled(run[0])
        other = self._make(info, name, order=order, reverse_groups=reverse_groups)
        params, optimizer, scheduler = other
        set_values(params, reached)
        own_names = copy.deepcopy(names_of(optimizer))
        optimizer.load_state_dict(files[0])
        scheduler.load_state_dict(files[1])
        self.assertEqual(names_of(optimizer), own_names)
        self._train(info, other, range(3, 6))
        self.assert_same(self._results(other), self._results(run))
        if not reverse_groups:
            self.assert_same(self._saved(scheduler), self._saved(run[2]))

    @parametrize("name", list(SCHEDULERS))
    def test_a_new_group(self, name):
        """A scheduler takes it, or does not, whether or not it has names."""
        info = INFOS[0]
        outcomes = []
        for named in (True, False):
            run = params, optimizer, scheduler = self._make(info, name, named=named)
            self._train(info, run, range(2))
            params["new"] = Parameter(torch.ones(2, 2))
            new = {"new": params["new"]} if named else [params["new"]]
            group = {"params": new, "initial_lr": 0.1, "max_lr": 1.0, "min_lr": 0.01}
            optimizer.add_param_group({**group, "swa_lr": 0.1})
            try:
                self._train(info, run, range(2, 4))
                outcomes.append(self._results(run))
            except Exception as error:
                outcomes.append((type(error).__name__, str(error)))
            if named:
                self.assertEqual(names_of(optimizer)[-1], ["new"])
        self.assert_same(*outcomes)


class TestNamedScaling(OptimTestCase):
    def _run(self, named, cls, options, order=None):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        params = dict(model.named_parameters())
        given = {name: params[name] for name in order or params}
        optimizer = cls(given if named else list(given.values()), **options)
        scaler = GradScaler("cpu", init_scale=256.0, growth_interval=2)
        return model, optimizer, scaler

    def _train(self, run, steps):
        model, optimizer, scaler = run
        for step in steps:
            optimizer.zero_grad()
            x = torch.full((5, 3), 0.1 * step + 0.1)
            # In one step, all gradients overflow, so that the optimizer takes none.
            scale = float("inf") if step == 2 else 1.0
            scaler.scale(model(x).square().sum() * scale).backward()
            if step % 2:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()

    def _results(self, run):
        model, optimizer, scaler = run
        params = dict(model.named_parameters())
        return values(params), state_by_name(optimizer, params), scaler.state_dict()

    @parametrize(
        "cls,options",
        [
            subtest((SGD, {"lr": 0.1, "momentum": 0.9}), "SGD"),
            subtest((Adam, {"lr": 0.1}), "Adam"),
            # Does the scaling itself
            subtest((Adam, {"lr": 0.1, "fused": True}), "fused_Adam"),
        ],
    )
    def test_grad_scaler(self, cls, options):
        named = self._run(True, cls, options)
        unnamed = self._run(False, cls, options)
        for run in (named, unnamed):
            self._train(run, range(4))
        self.assert_same(self._results(named), self._results(unnamed))
        self.assertLess(named[2].get_scale(), 2 * 256.0)

        model, optimizer, scaler = named
        order = shuffled(dict(model.named_parameters()))
        other = self._run(True, cls, options, order)
        other[0].load_state_dict(copy.deepcopy(model.state_dict()))
        other[1].load_state_dict(saved(optimizer))
        other[2].load_state_dict(scaler.state_dict())
        for run in (named, other):
            self._train(run, range(4, 7))
        self.assert_same(self._results(other), self._results(named))
        self.assertEqual(other[1].param_groups[0]["param_names"], order)


class TestNamedAveraging(OptimTestCase):
    def _run(self, named, average, order=None):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)
        )
        params = dict(model.named_parameters())
        given = {name: params[name] for name in order or params}
        optimizer = Adam(given if named else list(given.values()), lr=0.1)
        functions = {
            "swa": {},
            "ema": {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.9)},
        }
        averaged = swa_utils.AveragedModel(model, **functions[average])
        scheduler = swa_utils.SWALR(optimizer, swa_lr=0.05, anneal_epochs=3)
        return model, optimizer, averaged, scheduler

    def _train(self, run, steps):
        model, optimizer, averaged, scheduler = run
        data = torch.linspace(-1, 1, 30).reshape(2, 5, 3)
        for _ in steps:
            for x in data:
                optimizer.zero_grad()
                model(x).square().sum().backward()
                optimizer.step()
            averaged.update_parameters(model)
            scheduler.step()
        swa_utils.update_bn(list(data), averaged)

    def _results(self, run):
        model, optimizer, averaged, scheduler = run
        state = state_by_name(optimizer, dict(model.named_parameters()))
        saved = without_saved_groups(scheduler.state_dict())
        return averaged.state_dict(), state, saved

    @parametrize("average", ["swa", "ema"])
    def test_averaged_model(self, average):
        named = self._run(True, average)
        unnamed = self._run(False, average)
        for run in (named, unnamed):
            self._train(run, range(3))
        self.assert_same(self._results(named), self._results(unnamed))

        order = shuffled(dict(named[0].named_parameters()))
        other = self._run(True, average, order)
        files = [copy.deepcopy(part.state_dict()) for part in named]
        for part, file in zip(other, files):
            part.load_state_dict(file)
        for run in (named, other):
            self._train(run, range(3, 5))
        self.assert_same(self._results(other), self._results(named))

    def test_training_the_average_further(self):
        """Its parameters' names have a prefix."""
        run = self._run(True, "swa")
        self._train(run, range(2))
        _, optimizer, averaged, _ = run
        params = dict(averaged.named_parameters())
        further = Adam(params)
        with self.assertRaisesRegex(ValueError, "module."):
            further.load_state_dict(optimizer.state_dict())
        further.load_state_dict(
            torch.optim.rename_parameters(
                optimizer.state_dict(), lambda name: f"module.{name}"
            )
        )
        state = state_by_name(optimizer, dict(run[0].named_parameters()))
        self.assert_same(
            state_by_name(further, params),
            {f"module.{name}": entry for name, entry in state.items()},
        )


instantiate_parametrized_tests(TestNamedSchedulers)
instantiate_parametrized_tests(TestNamedScaling)
instantiate_parametrized_tests(TestNamedAveraging)


if __name__ == "__main__":
    run_tests()
