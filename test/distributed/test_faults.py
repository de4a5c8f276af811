# Owner(s): ["oncall: distributed checkpointing"]

"""Faults while optimizers are saved or loaded, on processes that are real.

Every rank that survives gets an error, in time; what failed to load is as it was;
and the last good checkpoint loads.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any


import _distributed  # usort: skip

from _describe import describe, difference
from _distributed import GlooTestCase
from _resharding import (
    AFTER,
    BEFORE,
    build,
    load,
    Net,
    outcome,
    save,
    sharded,
    state_of,
    train,
    WAYS,
)

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import AdamW, Optimizer
from torch.testing._internal.common_utils import run_tests


#: How long a collective waits; and, in a save, for a rank that has died.
COLLECTIVE = timedelta(seconds=60)
IMPATIENT = timedelta(seconds=8)

#: No error takes longer, in seconds.
IN_TIME = 60

WAYS_TO_LOAD = ("dcp", "flattened", "plain", "plain-list")


def local_state(optimizers: list[Optimizer]) -> Any:
    """An exact description of what this rank holds: state, groups, and names."""

    def local(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: local(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [local(item) for item in value]
        value = getattr(value, "_local_tensor", value)
        return value.detach().clone() if isinstance(value, torch.Tensor) else value

    return describe([local(optimizer.state_dict()) for optimizer in optimizers])


def error_of(call: Callable[..., Any], *args: Any, **kwargs: Any) -> BaseException:
    """The error that a call raises. That of a checkpoint is no Exception."""
    try:
        call(*args, **kwargs)
    except BaseException as error:
        return error
    raise AssertionError("There was no error.")


class FaultTestCase(GlooTestCase):
    """All ranks share a folder; and a collective fails after a short time."""

    folder: str

    def setUp(self) -> None:
        # Before the processes are spawned: it is in what they get.
        os.environ["OPTIM_NAMES_TEST_FOLDER"] = tempfile.mkdtemp()
        super().setUp()

    def tearDown(self) -> None:
        super().tearDown()
        if folder := os.environ.pop("OPTIM_NAMES_TEST_FOLDER", None):
            shutil.rmtree(folder, ignore_errors=True)

    def start(self) -> None:
        # In this process only, which is the test's own.
        _distributed.TIMEOUT = COLLECTIVE
        super().start()
        self.folder = os.environ["OPTIM_NAMES_TEST_FOLDER"]

    def assert_same(self, first: Any, second: Any, about: str) -> None:
        found = difference(first, second)
        self.assertIsNone(found, f"{about}: {found}")

    def assert_checkpoint_error(self, error: BaseException, text: str) -> None:
        """It is DCP's, which all ranks get, and says what is wrong."""
        self.assertIsInstance(error, CheckpointException, repr(error))
        self.assertRegex(str(error), text)

    def assert_good_one_loads(self, expected: Any, world_size: int) -> None:
        """The checkpoint "good" loads into other optimizers, and the run continues."""
        model = sharded(Net.LAYERS[::-1], world_size)
        optimizers = build(model, "reordered", fresh=True)
        load(model, optimizers, WAYS["plain"], f"{self.folder}/good-plain")
        train(model, optimizers, AFTER)
        ended = describe(outcome(model, optimizers))
        self.assert_same(ended, expected, "continued, not as without a stop")


class DyingWriter(FileSystemWriter):
    """A rank that dies in one of the hooks of a save.

    Args:
        path (str): where the checkpoint goes.
        hook (str, optional): the name of the method in which this process ends.
    """

    def __init__(self, path: str, hook: str | None) -> None:
        super().__init__(path)
        if hook is not None:
            setattr(self, hook, lambda *args, **kwargs: os._exit(0))


class TestRanksThatDie(FaultTestCase):
    """One after another dies in a save; those that are left go on, fewer each time."""

    @property
    def world_size(self) -> int:
        return 4

    def test_survivors_get_an_error_and_load_the_last_good_checkpoint(self):
        self.start()
        model = sharded(Net.LAYERS, 4)
        optimizers = build(model, "same")
        train(model, optimizers, BEFORE)
        save(model, optimizers, WAYS["plain"], f"{self.folder}/good-plain")
        train(model, optimizers, AFTER)
        expected = describe(outcome(model, optimizers))

        for count, hook, victim in (
            (4, "prepare_local_plan", 3),
            (3, "write_data", 2),
            # The coordinator, after all data is written, but no metadata.
            (2, "finish", 0),
        ):
            before = local_state(optimizers)
            where = f"{self.folder}/died-in-{hook}"
            dies = hook if self.rank == victim else None
            # One that talks to none but a rank that has given up waits to the end.
            group = dist.new_group(timeout=IMPATIENT)
            start = time.monotonic()
            error = error_of(
                dcp.save,
                {"optimizer": state_of(model, optimizers, WAYS["plain"])},
                storage_writer=DyingWriter(where, dies),
                process_group=group,
            )
            self.assertLess(time.monotonic() - start, IN_TIME)
            self.assertIsInstance(error, RuntimeError, repr(error))
            self.assertRegex(str(error), "(?i)connection (closed|reset)|timed out")
            self.assert_same(local_state(optimizers), before, f"a rank died in {hook}")

            # The others meet again, as a launcher would start them.
            count -= 1
            dist.destroy_process_group()
            rank = self.rank if victim else 0
            _distributed.join(rank, count, f"{self.folder}/meet-{count}")
            model = sharded(Net.LAYERS, count)
            optimizers = build(model, "same", fresh=True)
            target = {"optimizer": state_of(model, optimizers, WAYS["plain"])}
            error = error_of(dcp.load, target, checkpoint_id=where)
            self.assert_checkpoint_error(error, "metadata is None")
            if count != 3:
                # Sums over three ranks are not exact.
                self.assert_good_one_loads(expected, count)
            load(model, optimizers, WAYS["plain"], f"{self.folder}/good-plain")


def _truncate(file: str) -> None:
    os.truncate(file, os.path.getsize(file) // 2)


#: Ways to damage a checkpoint, and what the error says.
DAMAGES: dict[str, tuple[Callable[[str], None], str]] = {
    # EOFError is all that DCP says on a rank whose part was at the end.
    "truncated shard": (
        lambda path: _truncate(f"{path}/__1_0.distcp"),
        "EOFError|failed reading zip archive",
    ),
    "empty shard": (lambda path: os.truncate(f"{path}/__1_0.distcp", 0), "EOFError"),
    "missing shard": (
        lambda path: os.remove(f"{path}/__1_0.distcp"),
        r"No such file or directory: .*__1_0\.distcp",
    ),
    "truncated metadata": (
        lambda path: _truncate(f"{path}/.metadata"),
        "metadata read failed: .*truncated",
    ),
    "missing metadata": (
        lambda path: os.remove(f"{path}/.metadata"),
        r"metadata read failed: .*No such file or directory: .*\.metadata",
    ),
}

#: Models that one rank has, while the others have :class:`Net`; what is said of them
#: when they are to be loaded; and when they are saved.
OTHERS: dict[str, tuple[Callable[[Net], None], str, str]] = {
    "a parameter more": (
        lambda model: model.add_module("extra", nn.Linear(2, 2)),
        r"Missing key in checkpoint state_dict: .*extra\.weight",
        r"extra\.weight\S* invalid fill",
    ),
    "another shape": (
        lambda model: setattr(model, "mix2", nn.Linear(10, 12)),
        r"Size mismatch between saved .*10, 10.* and current: .*12, 10.* for .*mix2",
        r"mix2\.weight\S* has out of bounds chunk",
    ),
    "another name": (
        lambda model: model.add_module("renamed", model._modules.pop("mix2")),
        r"Missing key in checkpoint state_dict: .*renamed\.weight",
        r"mix2\.weight\S* invalid fill",
    ),
}


class TestBadCheckpoints(FaultTestCase):
    def start(self) -> None:
        super().start()
        self.model = sharded(Net.LAYERS, 2)
        self.optimizers = build(self.model, "same")
        train(self.model, self.optimizers, BEFORE)
        for way in WAYS_TO_LOAD:
            where = f"{self.folder}/good-{way}"
            save(self.model, self.optimizers, WAYS[way], where)
        train(self.model, self.optimizers, AFTER)
        self.expected = describe(outcome(self.model, self.optimizers))

    def damaged(self, way: str, damage: str) -> str:
        """A copy of the checkpoint, damaged on all ranks' behalf by the first."""
        where = f"{self.folder}/{damage} {way}"
        if self.rank == 0:
            shutil.copytree(f"{self.folder}/good-{way}", where)
            DAMAGES[damage][0](where)
        dist.barrier()
        return where

    def test_damaged_files(self):
        self.start()
        for damage, (_, text) in DAMAGES.items():
            for way in WAYS_TO_LOAD:
                where = self.damaged(way, damage)
                model = sharded(Net.LAYERS, 2)
                optimizers = build(model, "same", fresh=True)
                train(model, optimizers, range(1))
                before = local_state(optimizers)
                values = describe(outcome(model, optimizers))
                start = time.monotonic()
                error = error_of(load, model, optimizers, WAYS[way], where)
                self.assertLess(time.monotonic() - start, IN_TIME)
                self.assert_checkpoint_error(error, text)
                about = f"{damage}, {way}"
                self.assert_same(local_state(optimizers), before, about)
                self.assert_same(describe(outcome(model, optimizers)), values, about)
        self.assert_good_one_loads(self.expected, 2)

    def test_a_load_into_the_live_state_may_leave_half_of_it(self):
        # Why to load into a copy: DCP reads into the tensors that it is given, and those
        # in the state dict of an optimizer are its own.
        self.start()
        optimizers = build(self.model, "same", fresh=True)
        way = WAYS["plain-list"]

        def as_state_dict() -> Any:
            return state_of(self.model, optimizers, way)

        def as_it_is() -> Any:
            return optimizers[0]

        for target in (as_state_dict, as_it_is):
            changed = []
            for shard in range(2):
                where = f"{self.folder}/{target.__name__} {shard}"
                if self.rank == 0:
                    shutil.copytree(f"{self.folder}/good-plain-list", where)
                    file = f"{where}/__{shard}_0.distcp"
                    os.truncate(file, os.path.getsize(file) - 64)
                dist.barrier()
                train(self.model, optimizers, range(1))
                before = local_state(optimizers)
                error = error_of(dcp.load, {"optimizer": target()}, checkpoint_id=where)
                self.assert_checkpoint_error(error, "EOFError|zip archive")
                changed.append(local_state(optimizers) != before)
            # How much is read before the error depends on where what is.
            self.assertTrue(any(changed))
        # A good checkpoint mends it.
        load(self.model, optimizers, way, f"{self.folder}/good-plain-list")
        train(self.model, optimizers, AFTER)
        ended = describe(outcome(self.model, optimizers))
        self.assert_same(ended, self.expected, "mended")

    def test_a_rank_with_another_model(self):
        self.start()
        for title, (change, on_load, on_save) in OTHERS.items():
            for way in WAYS_TO_LOAD:
                model = Net()
                if self.rank == 1:
                    change(model)
                model = fully_shard(model.double(), mesh=init_device_mesh("cpu", (2,)))
                # One group on all ranks, as in the checkpoint the first.
                optimizers = [AdamW(model.named_parameters(), lr=0.9)]
                state_of(model, optimizers, WAYS[way])
                before = local_state(optimizers)
                where = f"{self.folder}/good-{way}"
                start = time.monotonic()
                error = error_of(load, model, optimizers, WAYS[way], where)
                self.assert_checkpoint_error(error, on_load)
                self.assert_same(local_state(optimizers), before, f"{title}, {way}")

                where = f"{self.folder}/{title} {way}"
                error = error_of(save, model, optimizers, WAYS[way], where)
                self.assert_checkpoint_error(error, on_save)
                self.assert_same(local_state(optimizers), before, f"{title}, {way}")
                self.assertLess(time.monotonic() - start, IN_TIME)
                # There is no metadata, so that it cannot be mistaken for a good one.
                self.assertFalse(os.path.exists(f"{where}/.metadata"))

        # To other groups it is the optimizer that objects, on that rank only.
        optimizers = build(self.model, "same", fresh=True)
        if self.rank == 1:
            optimizers = [AdamW(self.model.named_parameters(), lr=0.9)]
        state_of(self.model, optimizers, WAYS["plain"])
        before = local_state(optimizers)
        error = None
        try:
            load(self.model, optimizers, WAYS["plain"], f"{self.folder}/good-plain")
        except ValueError as found:
            error = found
        errors: list[Any] = [None] * 2
        dist.all_gather_object(errors, error and str(error))
        self.assertIsNone(errors[0])
        self.assertIn("Groups differ: the optimizer has 1 param group(s)", errors[1])
        if self.rank == 1:
            self.assert_same(local_state(optimizers), before, "other groups")
        self.assert_good_one_loads(self.expected, 2)


if __name__ == "__main__":
    run_tests()
