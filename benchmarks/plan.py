"""Which workloads are compared with which, and at which sizes."""

from dataclasses import dataclass

from environments import Kind


#: Numbers of parameters.
SIZES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)


@dataclass(frozen=True)
class Entry:
    """One way to do what a contest is about."""

    label: str
    kind: Kind
    workload: str
    #: The label of the entry that it is compared with.
    against: str | None = None
    #: The largest size. Beyond it, a call takes many seconds.
    largest: int = SIZES[-1]


@dataclass(frozen=True)
class Contest:
    """Entries that are measured in turns at each size."""

    key: str
    title: str
    entries: tuple[Entry, ...]
    sizes: tuple[int, ...] = SIZES
    #: Whether to draw it.
    plotted: bool = False


CONTESTS = (
    Contest(
        "construct",
        "Construct, one param group",
        (
            Entry("stock unnamed", "stock", "construct unnamed"),
            Entry("stock named", "stock", "construct named"),
            Entry("unnamed", "patched", "construct unnamed", "stock unnamed"),
            Entry("named", "patched", "construct named", "stock named"),
        ),
    ),
    Contest(
        "construct_groups",
        "Construct, one param group per parameter",
        (
            Entry("stock unnamed", "stock", "construct groups unnamed", largest=10_000),
            Entry("stock named", "stock", "construct groups named", largest=10_000),
            Entry("unnamed", "patched", "construct groups unnamed", "stock unnamed"),
            Entry("named", "patched", "construct groups named", "stock named"),
        ),
        (10, 100, 1_000, 8_000, 100_000, 1_000_000),
        plotted=True,
    ),
    Contest(
        "add_groups",
        "Call `add_param_group()` for each parameter",
        (
            Entry("stock unnamed", "stock", "add groups unnamed"),
            Entry("stock named", "stock", "add groups named"),
            Entry("unnamed", "patched", "add groups unnamed", "stock unnamed"),
            Entry("named", "patched", "add groups named", "stock named"),
        ),
        (10, 100, 1_000, 8_000),
    ),
    Contest(
        "state_dict",
        "`state_dict()`",
        (
            Entry("stock unnamed", "stock", "state_dict unnamed"),
            Entry("stock named", "stock", "state_dict named"),
            Entry("unnamed", "patched", "state_dict unnamed", "stock unnamed"),
            Entry("named", "patched", "state_dict named", "stock unnamed"),
        ),
        plotted=True,
    ),
    Contest(
        "load",
        "`load_state_dict()`",
        (
            Entry("stock unnamed", "stock", "load unnamed", largest=30_000),
            Entry("stock named", "stock", "load named", largest=30_000),
            Entry("unnamed", "patched", "load unnamed", "stock unnamed"),
            Entry("named", "patched", "load named", "stock named"),
            Entry("named, shuffled", "patched", "load shuffled", "stock named"),
            Entry("matching alone", "patched", "match"),
        ),
        (10, 100, 1_000, 10_000, 30_000, 100_000, 1_000_000),
        plotted=True,
    ),
    Contest(
        "get_by_name",
        "A state dict with names",
        (
            Entry("stock DCP", "stock", "dcp get"),
            Entry("stock _NamedOptimizer", "stock", "wrapper get"),
            Entry("DCP", "patched", "dcp get", "stock DCP"),
            Entry("state_dict()", "patched", "state_dict named", "stock DCP"),
        ),
        (10, 100, 1_000, 8_000),
    ),
    Contest(
        "set_by_name",
        "Load it by name",
        (
            Entry("stock DCP", "stock", "dcp set", largest=1_000),
            Entry("stock _NamedOptimizer", "stock", "wrapper set"),
            Entry("DCP", "patched", "dcp set", "stock DCP"),
            Entry("load_state_dict()", "patched", "load named", "stock DCP"),
        ),
        (10, 100, 1_000, 8_000),
    ),
    Contest(
        "sgd_step",
        "`SGD.step()` with momentum",
        (
            Entry("stock unnamed", "stock", "sgd step unnamed"),
            Entry("stock named", "stock", "sgd step named", "stock unnamed"),
            Entry("unnamed", "patched", "sgd step unnamed", "stock unnamed"),
            Entry("named", "patched", "sgd step named", "stock unnamed"),
        ),
        (10, 100, 1_000, 10_000),
    ),
    Contest(
        "adam_step",
        "`Adam.step()`",
        (
            Entry("stock unnamed", "stock", "adam step unnamed"),
            Entry("stock named", "stock", "adam step named", "stock unnamed"),
            Entry("unnamed", "patched", "adam step unnamed", "stock unnamed"),
            Entry("named", "patched", "adam step named", "stock unnamed"),
        ),
        (10, 100, 1_000, 10_000),
    ),
)

#: Loads whose memory is measured, and at which sizes.
MEMORY: dict[Kind, tuple[tuple[str, int], ...]] = {
    "stock": (("load unnamed", 1_000), ("load named", 1_000)),
    "patched": tuple(
        (workload, size)
        for size in (1_000, 100_000, 1_000_000)
        for workload in ("load unnamed", "load named", "load shuffled")
    ),
}

#: Sizes at which files are measured.
FILES = (1_000, 10_000)
