# Owner(s): ["module: optimizer", "module: LrScheduler"]

"""Schedulers resume by name: each entry of their lists finds its param group."""

import copy
import io
import pickle
import warnings
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from _common import OptimTestCase
from _scheduler_setups import (
    build,
    GROUPS,
    rates,
    run,
    SETUPS,
)
from torch.nn import Parameter
from torch.optim import Adam, lr_scheduler, SGD, swa_utils
from torch.testing._internal.common_utils import (
    instantiate_parametrized_tests,
    parametrize,
    run_tests,
)


#: What the groups of a resumed run hold, beside those of GROUPS that saved.
LIVE = {
    # The group with the first parameter of "encoder" has another first one now.
    "reordered": [("head", ["head.w"]), ("encoder", ["encoder.b", "encoder.a"])],
    "added": [
        ("new", ["new.w"]),
        ("head", ["head.w"]),
        ("encoder", ["encoder.a", "encoder.b"]),
    ],
    "split": [
        ("encoder", ["encoder.b"]),
        ("head", ["head.w"]),
        ("encoder", ["encoder.a"]),
    ],
    "grown": [("head", ["new.w", "head.w"]), ("encoder", ["encoder.a", "encoder.b"])],
}

#: Setups whose lists a closed form reads when an epoch is passed.
CLOSED_FORM = [
    "StepLR",
    "MultiStepLR",
    "ConstantLR",
    "LinearLR",
    "ExponentialLR",
    "PolynomialLR",
    "CosineAnnealingLR",
]

#: The lists of each kind of scheduler that have an entry per group.
LISTS = ("base_lrs", "_last_lr", "max_lrs", "min_lrs", "max_momentums")


def saved_form(*parts: Any) -> list[Any]:
    """State dicts as they come from a file."""
    file = io.BytesIO()
    torch.save([part.state_dict() for part in parts], file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def load(optimizer, scheduler, saved, scheduler_first=False, strict=True) -> None:
    """Load both, in either order."""
    if scheduler_first:
        scheduler.load_state_dict(saved[1])
    optimizer.load_state_dict(saved[0], strict=strict)
    if not scheduler_first:
        scheduler.load_state_dict(saved[1])


def all_of(scheduler) -> list[Any]:
    """A scheduler and those inside it."""
    inside = getattr(scheduler, "_schedulers", [])
    return [scheduler, *(part for child in inside for part in all_of(child))]


def lists_of(scheduler) -> dict[tuple[int, str, str], Any]:
    """Each entry of each list, by the scheduler, the list and a parameter."""
    return {
        (number, name, param): entry
        for number, part in enumerate(all_of(scheduler))
        for name in LISTS
        for group, entry in zip(
            scheduler.optimizer.param_groups, getattr(part, name, []), strict=False
        )
        for param in group["param_names"]
    }


def state_of(scheduler) -> Any:
    """A copy of all that a scheduler has."""
    apart = {"optimizer": None, "_schedulers": None}
    return copy.deepcopy([vars(part) | apart for part in all_of(scheduler)])


class TestResume(OptimTestCase):
    def test_all_schedulers_are_here(self):
        found = {
            value
            for module in (lr_scheduler, swa_utils)
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, lr_scheduler.LRScheduler)
        }
        made = {type(p) for make in SETUPS.values() for p in all_of(build(make)[1])}
        self.assertEqual(
            found - made, {lr_scheduler.LRScheduler, lr_scheduler._LRScheduler}
        )

    @parametrize("setup", list(SETUPS))
    @parametrize("live", list(LIVE))
    @parametrize("scheduler_first", [False, True])
    def test_continues_as_if_never_stopped(self, setup, live, scheduler_first):
        optimizer, scheduler = build(SETUPS[setup])
        run(optimizer, scheduler, 4)
        saved = saved_form(optimizer, scheduler)
        lists = lists_of(scheduler)
        at_save = rates(optimizer)

        resumed, resumed_scheduler = build(SETUPS[setup], LIVE[live])
        with warnings.catch_warnings():
            # The group of "encoder" is no group any more.
            warnings.simplefilter("ignore" if live == "split" else "error")
            load(
                resumed,
                resumed_scheduler,
                saved,
                scheduler_first,
                strict=live == "reordered",
            )
        for key, entry in lists_of(resumed_scheduler).items():
            # Parts of a group have the rates that the optimizer has at the load.
            other = (
                live == "split" and (scheduler_first or key[0]) and "_last" in key[1]
            )
            if key in lists and not (other and key[2].startswith("encoder")):
                self.assertEqual(entry, lists[key], f"{key}")
        # Beyond each milestone, restart and half cycle
        for _ in range(5):
            got = rates(resumed)
            self.assertEqual({name: got[name] for name in at_save}, rates(optimizer))
            run(optimizer, scheduler, 1)
            run(resumed, resumed_scheduler, 1)
        self.assertNotEqual(rates(optimizer), at_save)

    @parametrize("setup", CLOSED_FORM)
    @parametrize("live", list(LIVE))
    def test_closed_forms(self, setup, live):
        optimizer, scheduler = build(SETUPS[setup])
        run(optimizer, scheduler, 4)
        saved = saved_form(optimizer, scheduler)
        resumed, resumed_scheduler = build(SETUPS[setup], LIVE[live])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(resumed, resumed_scheduler, saved, strict=live == "reordered")
            for part in (scheduler, resumed_scheduler):
                part.step(epoch=3)
        got = rates(resumed)
        self.assertEqual(
            {name: got[name] for name in rates(optimizer)}, rates(optimizer)
        )

    @parametrize("name", ["LambdaLR", "CosineAnnealingWarmRestarts", "StepLR"])
    def test_tensor_lr(self, name):
        def start(order):
            groups = [
                {"params": [(n, Parameter(torch.ones(2)))], "lr": torch.tensor(lr)}
                for n, lr in order.items()
            ]
            optimizer = Adam(groups, foreach=False)
            arguments = {
                "LambdaLR": [lambda epoch: 0.5**epoch],
                "CosineAnnealingWarmRestarts": [10],
                "StepLR": [2],
            }
            return optimizer, getattr(lr_scheduler, name)(optimizer, *arguments[name])

        optimizer, scheduler = start({"a": 0.1, "b": 0.4, "c": 0.7})
        run(optimizer, scheduler, 3)
        saved = saved_form(optimizer, scheduler)
        run(optimizer, scheduler, 3)
        resumed, resumed_scheduler = start({"c": 0.7, "a": 0.1, "d": 0.2, "b": 0.4})
        load(resumed, resumed_scheduler, saved, strict=False)
        new = resumed.param_groups[2]
        self.assertEqual(resumed_scheduler.base_lrs[2], new["initial_lr"])
        self.assertIsNot(resumed_scheduler.base_lrs[2], new["initial_lr"])
        run(resumed, resumed_scheduler, 3)
        got = rates(resumed)
        del got["d"]
        self.assertEqual(got, rates(optimizer))

    def test_callable_objects_with_state(self):
        """What a callable has counted goes to the callable of the same group."""

        class Counter:
            def __init__(self):
                self.calls = 0

            def __call__(self, epoch):
                self.calls += 1
                return 1.0

        def start(names):
            groups = [{"params": [(n, Parameter(torch.ones(1)))]} for n in names]
            counters = {n: Counter() for n in names}
            optimizer = SGD(groups, lr=0.1)
            return counters, lr_scheduler.LambdaLR(optimizer, [*counters.values()])

        counters, scheduler = start(["a", "b"])
        for name, calls in (("a", 10), ("b", 20)):
            counters[name].calls = calls
        resumed, resumed_scheduler = start(["b", "new", "a"])
        resumed_scheduler.load_state_dict(scheduler.state_dict())
        self.assertEqual(
            {name: counter.calls for name, counter in resumed.items()},
            {"b": 20, "new": 1, "a": 10},
        )

    def test_an_optimizer_that_got_its_names_from_the_file(self):
        optimizer, scheduler = build(SETUPS["CosineAnnealingWarmRestarts"])
        run(optimizer, scheduler, 4)
        saved = saved_form(optimizer, scheduler)
        adopting, its_scheduler = build(
            SETUPS["CosineAnnealingWarmRestarts"], named=False
        )
        self.assertNotIn("_saved_groups", its_scheduler.state_dict())
        load(adopting, its_scheduler, saved)
        self.assertIn("_saved_groups", its_scheduler.state_dict())
        again, again_scheduler = build(
            SETUPS["CosineAnnealingWarmRestarts"], LIVE["reordered"]
        )
        load(again, again_scheduler, saved_form(adopting, its_scheduler))
        for parts in ((optimizer, scheduler), (again, again_scheduler)):
            run(*parts, 3)
        self.assertEqual(rates(again), rates(optimizer))

    def test_empty_groups_pair_up_in_order(self):
        def start(names):
            groups = [
                {"params": [(n, Parameter(torch.ones(1)))] if n else {}, "lr": lr}
                for n, lr in names
            ]
            optimizer = SGD(groups, momentum=0.9)
            return optimizer, lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.5)

        optimizer, scheduler = start([("", 0.1), ("a", 0.2), ("", 0.3)])
        resumed, resumed_scheduler = start([("a", 1.0), ("", 1.0), ("", 1.0)])
        resumed_scheduler.load_state_dict(scheduler.state_dict())
        self.assertEqual(resumed_scheduler.base_lrs, [0.2, 0.1, 0.3])


class TestPartialLoads(OptimTestCase):
    """Groups that were added, split, merged or renamed since."""

    def _start(self, groups, make=None, lr=0.1):
        optimizer = SGD(
            [
                {"params": [(n, Parameter(torch.ones(2))) for n in names], "lr": lr}
                for names, lr in groups
            ],
            momentum=0.9,
        )
        make = make or (lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.5**epoch))
        return optimizer, make(optimizer)

    def test_an_added_group_starts_from_its_own_initial_lr(self):
        optimizer, scheduler = self._start([(["a"], 0.1), (["b"], 0.2)])
        run(optimizer, scheduler, 2)
        saved = saved_form(optimizer, scheduler)
        live, live_scheduler = self._start([(["new"], 1.0), (["b"], 3.0), (["a"], 4.0)])
        load(live, live_scheduler, saved, strict=False)
        self.assertEqual(live_scheduler.base_lrs, [1.0, 0.2, 0.1])
        self.assertEqual(live_scheduler.get_last_lr(), [1.0, 0.05, 0.025])
        run(live, live_scheduler, 1)
        self.assertEqual(live_scheduler.get_last_lr(), [0.125, 0.025, 0.0125])

    def test_an_added_group_shares_no_tensor(self):
        optimizer, scheduler = self._start([(["a"], 0.1)])
        saved = saved_form(optimizer, scheduler)
        live, live_scheduler = self._start([(["new"], torch.tensor(1.0)), (["a"], 4.0)])
        load(live, live_scheduler, saved, strict=False)
        (rate, other), group = live_scheduler.base_lrs, live.param_groups[0]
        self.assertEqual((rate, other), (1.0, 0.1))
        self.assertIsNot(rate, group["initial_lr"])

    @parametrize("scheduler_first", [False, True])
    def test_parts_of_a_split_group_keep_rates_of_their_own(self, scheduler_first):
        """As the optimizer does with the options in which they differ."""
        optimizer, scheduler = self._start([(["a", "b"], 0.3)])
        saved = saved_form(optimizer, scheduler)
        live, live_scheduler = self._start([(["a"], 1e-5), (["b"], 1e-3)])
        # What the optimizer's load leaves to groups whose rates differ.
        for group in saved[0]["param_groups"]:
            del group["lr"], group["initial_lr"]
        with self.assertWarnsRegex(UserWarning, 'group of "a".*split'):
            load(live, live_scheduler, saved, scheduler_first, strict=False)
        self.assertEqual(live_scheduler.base_lrs, [1e-5, 1e-3])

    def test_parts_of_a_split_group_take_what_the_optimizer_took(self):
        optimizer, scheduler = self._start([(["a", "b"], 0.3)])
        saved = saved_form(optimizer, scheduler)
        live, live_scheduler = self._start([(["a"], 1.0), (["b"], 1.0)])
        with self.assertWarnsRegex(UserWarning, "Load the optimizer first"):
            load(live, live_scheduler, saved, strict=False)
        self.assertEqual(live_scheduler.base_lrs, [0.3, 0.3])

    def test_a_merged_group_keeps_its_own(self):
        optimizer, scheduler = self._start([(["a"], 0.1), (["b"], 0.2), (["c"], 0.3)])
        saved = saved_form(optimizer, scheduler)
        live, live_scheduler = self._start([(["c"], 1.0), (["a", "b"], 2.0)])
        with self.assertWarnsRegex(UserWarning, 'groups? of "a", "b".*merged'):
            load(live, live_scheduler, saved, strict=False)
        self.assertEqual(live_scheduler.base_lrs, [0.3, 2.0])

    def test_a_group_that_is_gone_is_reported(self):
        optimizer, scheduler = self._start([(["a"], 0.1), (["b"], 0.2)])
        live, live_scheduler = self._start([(["b"], 1.0)])
        with self.assertWarnsRegex(UserWarning, '"a"'):
            load(live, live_scheduler, saved_form(optimizer, scheduler), strict=False)
        self.assertEqual(live_scheduler.base_lrs, [0.2])

    def test_one_warning_for_all_schedulers_inside(self):
        make = SETUPS["ChainedScheduler of SequentialLR"]
        optimizer, scheduler = build(make)
        live, live_scheduler = build(make, LIVE["split"])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            live_scheduler.load_state_dict(scheduler.state_dict())
        self.assertEqual(len(caught), 1)
        self.assertEqual(caught[0].filename, __file__)

    def _older_than_its_groups(self, min_lr):
        """A scheduler, and a state dict for it that has nothing for a new group."""
        _, scheduler = self._start(
            [(["a"], 0.1), (["b"], 0.2)],
            lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=[0.03, 0.04]),
        )
        optimizer, live_scheduler = self._start(
            [(["b"], 0.1), (["a"], 0.2)],
            lambda o: lr_scheduler.ReduceLROnPlateau(o, min_lr=min_lr),
        )
        optimizer.add_param_group({"params": {"new": Parameter(torch.ones(1))}})
        return live_scheduler, scheduler.state_dict()

    def test_a_single_value_is_that_of_every_group(self):
        scheduler, saved = self._older_than_its_groups(0.01)
        scheduler.load_state_dict(saved)
        self.assertEqual(scheduler.min_lrs, [0.04, 0.03, 0.01])

    def test_a_list_is_not_extended_by_guess(self):
        scheduler, saved = self._older_than_its_groups([0.01, 0.02])
        before = state_of(scheduler)
        with self.assertRaisesRegex(ValueError, 'min_lrs.*"new".*Build'):
            scheduler.load_state_dict(saved)
        self.assertEqual(state_of(scheduler), before)

    def test_a_group_added_while_training(self):
        """Lists that are shorter than the groups are no obstacle."""
        make = SETUPS["StepLR"]
        optimizer, scheduler = build(make)
        optimizer.add_param_group({"params": {"new.w": Parameter(torch.ones(2))}})
        run(optimizer, scheduler, 4)
        saved = saved_form(optimizer, scheduler)
        live, live_scheduler = build(make, LIVE["added"])
        load(live, live_scheduler, saved)
        self.assertEqual(
            live_scheduler.base_lrs, [live.param_groups[0]["lr"], 0.4, 0.1]
        )
        for parts in ((optimizer, scheduler), (live, live_scheduler)):
            run(*parts, 4)
        self.assertEqual(rates(live), rates(optimizer))

    def test_names_that_the_optimizer_does_not_have(self):
        optimizer, scheduler = self._start([(["a"], 0.1), (["b"], 0.2)])
        live, live_scheduler = self._start([(["module.a"], 1.0), (["module.b"], 1.0)])
        with self.assertWarnsRegex(UserWarning, '"a", "b".*by position'):
            live_scheduler.load_state_dict(scheduler.state_dict())
        self.assertEqual(live_scheduler.base_lrs, [0.1, 0.2])

        renamed = copy.deepcopy(scheduler.state_dict())
        renamed["_saved_groups"]["param_names"] = ["module.b", "module.a"]
        live_scheduler.load_state_dict(renamed)
        self.assertEqual(live_scheduler.base_lrs, [0.2, 0.1])

    def test_names_and_a_number_of_groups_that_differ(self):
        optimizer, scheduler = build(SETUPS["SequentialLR"])
        live, live_scheduler = self._start(
            [(["module.a"], 1.0), (["b"], 1.0), (["c"], 1.0)], SETUPS["SequentialLR"]
        )
        before = state_of(live_scheduler)
        with self.assertRaisesRegex(ValueError, '2 param groups.*"encoder.a".* 3 .*'):
            live_scheduler.load_state_dict(scheduler.state_dict())
        self.assertEqual(state_of(live_scheduler), before)


class TestFiles(OptimTestCase):
    """What a file says, who writes it and who reads it."""

    def test_one_key_for_each_group(self):
        scheduler = build(SETUPS["LambdaLR"])[1]
        state_dict = scheduler.state_dict()
        self.assertEqual(
            state_dict["_saved_groups"],
            {
                "param_names": ["encoder.a", "head.w"],
                "sizes": [2, 1],
                "lists": {"base_lrs": [0.1, 0.4]},
            },
        )
        # The same object, so that a file has it once.
        self.assertIs(
            state_dict["_saved_groups"]["lists"]["base_lrs"], state_dict["base_lrs"]
        )
        self.assertNotIn("_saved_groups", vars(scheduler))

    def test_bytes_do_not_grow_with_the_parameters(self):
        sizes = []
        for number in (1, 1000):
            params = {f"layer.{i}": Parameter(torch.ones(1)) for i in range(number)}
            scheduler = lr_scheduler.StepLR(SGD(params), 2)
            sizes.append(len(pickle.dumps(scheduler.state_dict())))
        # A larger number takes a byte more.
        self.assertLessEqual(sizes[1], sizes[0] + 1)

    @parametrize("setup", list(SETUPS))
    def test_the_passed_dict_is_left_alone(self, setup):
        optimizer, scheduler = build(SETUPS[setup])
        run(optimizer, scheduler, 3)
        _, saved = saved_form(optimizer, scheduler)
        before = copy.deepcopy(saved)
        live = build(SETUPS[setup], LIVE["reordered"])[1]
        live.load_state_dict(saved)
        self.assertEqual(saved, before)
        self.assertNotIn("_saved_groups", vars(live))

    @parametrize("setup", list(SETUPS))
    @parametrize("named", [False, True])
    def test_a_file_without_names_loads_by_position(self, setup, named):
        """So does one with names, if the optimizer has none."""
        optimizer, scheduler = build(SETUPS[setup], named=not named)
        run(optimizer, scheduler, 4)
        saved = saved_form(scheduler)[0]
        want = copy.deepcopy(saved)
        live_scheduler = build(SETUPS[setup], LIVE["reordered"], named=named)[1]
        live_scheduler.load_state_dict(saved)
        got = saved_form(live_scheduler)[0]
        for part in (want, got):
            for state_dict in self._nested(part):
                state_dict.pop("_saved_groups", None)
        self.assertEqual(got, want)

    def _nested(self, state_dict):
        inside = state_dict.get("_schedulers", [])
        return [state_dict, *(part for child in inside for part in self._nested(child))]

    def test_copies(self):
        optimizer, scheduler = build(SETUPS["SequentialLR"], named=True)
        run(optimizer, scheduler, 3)
        for other in (
            copy.copy(scheduler),
            copy.deepcopy(scheduler),
            pickle.loads(pickle.dumps(scheduler)),
        ):
            self.assertEqual(other.state_dict(), scheduler.state_dict())
            self.assertEqual(list(vars(other)), list(vars(scheduler)))

    @parametrize("names_saved", [True, False])
    def test_distributed_checkpoint(self, names_saved):
        """A template with names reads a checkpoint without them by position."""
        make = SETUPS["SequentialLR with objects"]
        optimizer, scheduler = build(make, named=names_saved)
        run(optimizer, scheduler, 4)
        groups = LIVE["reordered"] if names_saved else GROUPS
        live_scheduler = build(make, groups)[1]
        with TemporaryDirectory() as folder:
            dcp.save({"scheduler": scheduler}, checkpoint_id=folder, no_dist=True)
            dcp.load({"scheduler": live_scheduler}, checkpoint_id=folder, no_dist=True)
        lists = [part.base_lrs for part in live_scheduler._schedulers]
        self.assertEqual(lists, [[0.4, 0.1] if names_saved else [0.1, 0.4]] * 2)
        self.assertEqual(live_scheduler.last_epoch, 4)

    def _carried_along(self, lists):
        """A file whose names a release has carried along, with other lists."""
        scheduler = build(SETUPS["CyclicLR"])[1]
        saved = copy.deepcopy(scheduler.state_dict())
        return {**saved, **lists}

    def test_a_list_that_was_replaced_loads_by_position(self):
        """A run of a release that put its list in its own order."""
        saved = self._carried_along({"base_lrs": [0.02, 0.01], "last_epoch": 9})
        live = build(SETUPS["CyclicLR"], LIVE["reordered"])[1]
        with self.assertWarnsRegex(UserWarning, "base_lrs.*by position"):
            live.load_state_dict(saved)
        self.assertEqual(live.base_lrs, [0.02, 0.01])
        # Nobody replaced this one.
        self.assertEqual(live.max_lrs, saved["max_lrs"][::-1])

    def test_a_replaced_list_in_the_same_order_needs_no_warning(self):
        saved = self._carried_along({"base_lrs": [0.02, 0.01]})
        live = build(SETUPS["CyclicLR"])[1]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            live.load_state_dict(saved)
        self.assertEqual(live.base_lrs, [0.02, 0.01])

    def test_a_replaced_list_of_another_length(self):
        saved = self._carried_along({"base_lrs": [0.02, 0.01, 0.03]})
        live = build(SETUPS["CyclicLR"], LIVE["reordered"])[1]
        before = state_of(live)
        with self.assertRaisesRegex(ValueError, "base_lrs.*3 entries.*2 param groups"):
            live.load_state_dict(saved)
        self.assertEqual(state_of(live), before)


class TestSubclasses(OptimTestCase):
    def _start(self, cls, order):
        groups = [{"params": [(n, Parameter(torch.ones(1)))]} for n in order]
        return cls(SGD(groups, lr=0.1), order)

    def _loaded(self, cls):
        scheduler = self._start(cls, ["a", "b"])
        loaded = self._start(cls, ["b", "a"])
        loaded.base_lrs = [5.0, 6.0]
        saved = copy.deepcopy({**scheduler.state_dict()})
        saved["base_lrs"][:] = [1.0, 2.0]
        loaded.load_state_dict(saved)
        return loaded

    def test_a_list_of_its_own_stays_by_position(self):
        class Own(lr_scheduler.LambdaLR):
            def __init__(self, optimizer, order):
                self.order = list(order)
                super().__init__(optimizer, lambda epoch: 1.0)

        loaded = self._loaded(Own)
        self.assertEqual(loaded.order, ["a", "b"])
        self.assertEqual(loaded.base_lrs, [2.0, 1.0])

    def test_a_list_of_its_own_that_is_declared(self):
        class Declared(lr_scheduler.LambdaLR):
            _per_group_lists = {
                **lr_scheduler.LambdaLR._per_group_lists,
                "order": None,
            }

            def __init__(self, optimizer, order):
                self.order = list(order)
                super().__init__(optimizer, lambda epoch: 1.0)

        loaded = self._loaded(Declared)
        self.assertEqual(loaded.order, ["b", "a"])
        self.assertEqual(loaded.base_lrs, [2.0, 1.0])

    def test_a_load_of_its_own_stays_by_position(self):
        class OwnLoad(lr_scheduler.LambdaLR):
            def __init__(self, optimizer, order):
                super().__init__(optimizer, lambda epoch: 1.0)

            def load_state_dict(self, state_dict):
                self.__dict__.update({**state_dict, "lr_lambdas": self.lr_lambdas})

        loaded = self._loaded(OwnLoad)
        self.assertEqual(loaded.base_lrs, [1.0, 2.0])
        # It has kept the names, but what it saves has those of its own groups.
        names = loaded.state_dict()["_saved_groups"]["param_names"]
        self.assertEqual(names, ["b", "a"])

    def test_names_that_it_kept_are_not_saved_for_an_optimizer_without(self):
        class OwnLoad(lr_scheduler.StepLR):
            def load_state_dict(self, state_dict):
                self.__dict__.update(state_dict)

        scheduler = OwnLoad(SGD([Parameter(torch.ones(1))]), 2)
        saved = self._start(lambda o, _: lr_scheduler.StepLR(o, 2), "a").state_dict()
        scheduler.load_state_dict(saved)
        self.assertIn("_saved_groups", vars(scheduler))
        self.assertNotIn("_saved_groups", scheduler.state_dict())

    def test_inside_another_with_a_state_that_is_no_dict(self):
        class Inside:
            def __init__(self, optimizer):
                self.optimizer = optimizer

            def state_dict(self):
                return ["mine"]

            def load_state_dict(self, state):
                self.loaded = state

        def start(optimizer, _):
            inside = [lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0)]
            inside.append(Inside(optimizer))
            return lr_scheduler.ChainedScheduler(inside)

        scheduler = self._start(start, ["a", "b"])
        scheduler._schedulers[0].base_lrs = [1.0, 2.0]
        loaded = self._start(start, ["b", "a"])
        loaded.load_state_dict(scheduler.state_dict())
        self.assertEqual(loaded._schedulers[0].base_lrs, [2.0, 1.0])
        self.assertEqual(loaded._schedulers[1].loaded, ["mine"])

    def test_names_edited_by_hand(self):
        """Without one for each parameter, there are none."""
        scheduler = self._start(lambda o, _: lr_scheduler.StepLR(o, 2), ["a", "b"])
        for names in ([], None):
            scheduler.optimizer.param_groups[0]["param_names"] = names
            self.assertNotIn("_saved_groups", scheduler.state_dict())

    def test_a_list_that_cannot_be_compared(self):
        class Vectors(lr_scheduler.StepLR):
            _per_group_lists = {**lr_scheduler.StepLR._per_group_lists, "own": None}

            def __init__(self, optimizer, order):
                super().__init__(optimizer, 2)
                self.own = [torch.full((2,), float(ord(name))) for name in order]

        scheduler = self._start(Vectors, ["a", "b"])
        loaded = self._start(Vectors, ["b", "a"])
        saved = scheduler.state_dict()
        saved["own"] = [value.clone() for value in saved["own"]]
        loaded.load_state_dict(saved)
        self.assertEqual(loaded.own, scheduler.own[::-1])

    def test_without_an_optimizer(self):
        class Without(lr_scheduler.LRScheduler):
            def __init__(self):
                self.last_epoch = 3

        scheduler = Without()
        scheduler.load_state_dict({"last_epoch": 4})
        self.assertEqual(scheduler.state_dict(), {"last_epoch": 4})


instantiate_parametrized_tests(TestResume)
instantiate_parametrized_tests(TestPartialLoads)
instantiate_parametrized_tests(TestFiles)
instantiate_parametrized_tests(TestSubclasses)


if __name__ == "__main__":
    run_tests()
