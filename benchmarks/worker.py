"""A process that measures one torch on request.

It reads requests from standard input, the workload and the size of a
:class:`plan.Call`, and writes the answers to standard output, a JSON value a line
each. :mod:`rounds` is the other side.
"""

import contextlib
import gc
import json
import os
import sys
import time
import timeit
import warnings
from math import ceil
from typing import TextIO

import torch
from workloads import COUNTED, TIMED, Call, Subject


#: All work is done by one thread and in memory. Its processor time is the time that
#: it takes on an idle machine, also if other processes make it wait. On Windows,
#: that clock is too coarse.
CLOCK = time.perf_counter if sys.platform == "win32" else time.process_time


class Worker:
    """What a worker keeps between two requests: parameters and calls by size."""

    def __init__(self) -> None:
        self._subjects: dict[int, Subject] = {}
        self._calls: dict[tuple[str, int], Call] = {}

    def answer(self, workload: str, size: int, enough: float) -> float:
        """Measure.

        Args:
            workload (str): a name in :mod:`workloads`.
            size (int): the number of parameters.
            enough (float): the seconds to measure for; shorter calls are repeated.

        Returns:
            float: the seconds of a call, or what is counted.
        """
        subject = self._subjects.setdefault(size, Subject(size))
        if workload in COUNTED:
            return COUNTED[workload](subject)
        if (workload, size) not in self._calls:
            gc.disable()  # nothing that is made here is garbage
            self._calls[workload, size] = TIMED[workload](subject)
            # A collection of garbage that happens to take place during a call is to
            # look at what the call made, and not at the parameters of all sizes.
            gc.collect()
            gc.freeze()
        return seconds(self._calls[workload, size], enough)


def seconds(call: Call, enough: float) -> float:
    """The processor time of a call, in seconds."""
    # timeit turns garbage collection off, but a program has it.
    timer = timeit.Timer(call, setup=gc.enable, timer=CLOCK)
    once = timer.timeit(1)
    if once >= enough:
        return once
    number = ceil(enough / max(once, 1e-6))
    return timer.timeit(number) / number


def main(answers: TextIO) -> None:
    """Say which torch this is, and answer requests until there are no more."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    kind = "patched" if hasattr(torch.optim, "rename_parameters") else "stock"
    print(json.dumps(kind), file=answers, flush=True)
    # The first optimizer imports what the others have then.
    torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    worker = Worker()
    for line in sys.stdin:
        print(json.dumps(worker.answer(*json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    # What anything prints goes to standard error, not between the answers.
    with (
        os.fdopen(os.dup(1), "w", encoding="utf-8") as stream,
        contextlib.suppress(KeyboardInterrupt),  # the other side tells
    ):
        os.dup2(2, 1)
        main(stream)
