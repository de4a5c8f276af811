"""A process that measures one torch on request.

It reads requests from standard input and writes the answers to standard output,
a JSON object a line each. :mod:`rounds` is the other side.
"""

import contextlib
import gc
import json
import os
import sys
import time
import timeit
import warnings
from typing import Any, TextIO

import torch
from torch.utils.benchmark import Timer
from workloads import (
    WORKLOADS,
    Subject,
    UnavailableError,
    file_size,
    load_memory,
    name_bytes,
)


#: All work is done by one thread and in memory. Its processor time is the time that
#: it takes on an idle machine, also if other processes make it wait. On Windows,
#: that clock is too coarse.
CLOCK = time.perf_counter if sys.platform == "win32" else time.process_time

#: Seconds from which on a call is timed once, after one that is not counted, and those
#: from which on there is no time for that either.
LONG, VERY_LONG = 1.0, 5.0


class Worker:
    """What a worker keeps between two requests: the parameters of the last size."""

    def __init__(self) -> None:
        self._subject: Subject | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks for.

        Args:
            request (dict): ``"do"`` names one of the methods, ``"size"`` is the
                number of parameters, and the rest are its arguments.

        Returns:
            dict: what was measured, or ``"unavailable"`` with the reason.
        """
        arguments = dict(request)
        method = getattr(self, arguments.pop("do"))
        size = arguments.pop("size", 0)
        if self._subject is None or self._subject.size != size:
            self._subject = None
            gc.collect()
            self._subject = Subject(size)
        try:
            return method(self._subject, **arguments)  # type: ignore[no-any-return]
        except UnavailableError as error:
            return {"unavailable": str(error)}

    def version(self, subject: Subject) -> dict[str, Any]:
        """Which torch this is."""
        return {
            "torch": torch.__version__,
            "patched": hasattr(torch.optim, "rename_parameters"),
            "file": torch.optim.__file__,
        }

    def time(
        self, subject: Subject, workload: str, min_run_time: float
    ) -> dict[str, Any]:
        """Seconds that a call takes.

        Args:
            subject (Subject): the parameters.
            workload (str): the name of the workload.
            min_run_time (float): seconds to measure for. A call that takes
                longer than :data:`LONG` is timed once.

        Returns:
            dict: ``"seconds"``, the median.
        """
        call = WORKLOADS[workload](subject)
        # Of a collection that happens to take place during a call, the part that goes
        # through what was there before belongs to no call.
        gc.collect()
        gc.freeze()
        # timeit turns garbage collection off, but a program has it.
        timed: dict[str, Any] = {
            "stmt": "call()",
            "setup": "gc.enable()",
            "timer": CLOCK,
            "globals": {"call": call, "gc": gc},
        }
        # Timer makes each call at least twice, which takes too long for some.
        try:
            once = timeit.Timer(**timed).timeit(1)
            if once > VERY_LONG:
                return {"seconds": once}
            if once > LONG:
                return {"seconds": timeit.Timer(**timed).timeit(1)}
            measured = Timer(**timed).blocked_autorange(min_run_time=min_run_time)
            return {"seconds": measured.median}
        finally:
            gc.unfreeze()

    def memory(self, subject: Subject, workload: str) -> dict[str, Any]:
        """Bytes per parameter that a load needs; see :func:`load_memory`."""
        return dict(load_memory(subject, workload))

    def files(self, subject: Subject) -> dict[str, Any]:
        """Sizes of files, and the length of a name."""
        return {
            "unnamed": file_size(subject, named=False),
            "named": file_size(subject, named=True),
            "name": name_bytes(subject),
        }


def main(answers: TextIO) -> None:
    """Answer requests until there are no more."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    worker = Worker()
    for line in sys.stdin:
        print(json.dumps(worker.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    # What anything prints goes to standard error, not between the answers.
    with (
        os.fdopen(os.dup(1), "w", encoding="utf-8") as stream,
        contextlib.suppress(KeyboardInterrupt),  # the other side tells
    ):
        os.dup2(2, 1)
        main(stream)
