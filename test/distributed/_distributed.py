"""What the distributed tests share: the helpers of ``test/optim``, and processes.

A test module imports this one before the helpers of ``test/optim``, which it
makes importable.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any


sys.path.insert(1, str(Path(__file__).resolve().parents[1] / "optim"))

from _guard import require_patched_torch


require_patched_torch()

import torch
import torch.distributed as dist
from torch.testing._internal.common_distributed import (
    MultiProcContinuousTest,
    MultiProcessTestCase,
)


#: How long a collective waits for the other ranks, so that nothing hangs.
TIMEOUT = timedelta(seconds=90)


class GlooTestCase(MultiProcessTestCase):
    """A test whose body runs in ``world_size`` processes on gloo, on the CPU."""

    @property
    def world_size(self) -> int:
        return 2

    def setUp(self) -> None:
        super().setUp()
        self._spawn_processes()

    def tearDown(self) -> None:
        super().tearDown()
        try:
            os.remove(self.file_name)
        except OSError:
            pass

    def start(self) -> None:
        """Join the process group. The first line of each test's body."""
        torch.set_num_threads(1)
        join(self.rank, self.world_size, self.file_name)
        self.addCleanup(dist.destroy_process_group)

    def run_test(self, test_name: str, parent_pipe: Any) -> None:
        super().run_test(test_name, parent_pipe)
        end_process()


class GlooContinuousTestCase(MultiProcContinuousTest):
    """Tests that run one after another in the same two processes on gloo.

    For many small tests: to start processes takes longer than those do. If one
    fails, the others of its class do not run.
    """

    world_size = 2
    timeout = TIMEOUT

    @classmethod
    def backend_str(cls) -> str:
        return "gloo"

    @classmethod
    def device_type(cls) -> str:
        return "cpu"

    @classmethod
    def _init_pg(cls, rank: int, world_size: int, rdvz_file: str) -> None:
        torch.set_num_threads(1)
        super()._init_pg(rank, world_size, rdvz_file)


def join(rank: int, world_size: int, file: str) -> None:
    """Join a process group on gloo that meets in a file."""
    dist.init_process_group(
        "gloo",
        init_method=f"file://{file}",
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
    )


def end_process() -> None:
    """End this process at once, successfully.

    While the interpreter shuts down, threads of gloo may still drop what they hold
    of tensors, which now and then ends the process by SIGABRT.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def in_processes(world_size: int, body: Callable[..., Any], *args: Any) -> list[Any]:
    """Run a function in new processes that form a process group on gloo.

    Args:
        world_size (int): how many processes.
        body (callable): a function of a module, called with the rank and
            ``args``. It must return something that can be pickled.
        args: further arguments.

    Returns:
        list: what it returned on each rank.
    """
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(
            _run, (world_size, folder, body, args), nprocs=world_size
        )
        return [
            torch.load(f"{folder}/{r}", weights_only=False) for r in range(world_size)
        ]


def _run(
    rank: int, world_size: int, folder: str, body: Callable[..., Any], args: tuple
) -> None:
    torch.set_num_threads(1)
    join(rank, world_size, f"{folder}/store")
    result = body(rank, *args)
    torch.save(result, f"{folder}/{rank}")
    dist.barrier()
    dist.destroy_process_group()
    end_process()
