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
    #: Whether the table has a row for each entry, not one for each size.
    by_entry: bool = False


#: Optimizers whose loads are compared at one size, and what is not in their name.
OPTIMIZERS = {
    "Adadelta": "",
    "Adafactor": "",
    "Adagrad": "",
    "Adam": "",
    "AdamW": "amsgrad",
    "Adamax": "",
    "ASGD": "",
    "LBFGS": "",
    "Muon": "",
    "NAdam": "",
    "RAdam": "",
    "RMSprop": "centered, momentum",
    "Rprop": "",
    "SGD": "momentum",
    "SparseAdam": "",
}


def _by_optimizer() -> tuple[Entry, ...]:
    """Loads of each optimizer, with and without names."""
    entries = []
    for kind, options in OPTIMIZERS.items():
        for way in ("unnamed", "named"):
            label = f"{kind} ({options}), {way}" if options else f"{kind}, {way}"
            stock = f"stock {label}"
            entries += [
                Entry(stock, "stock", f"load {kind} {way}"),
                Entry(label, "patched", f"load {kind} {way}", stock),
            ]
    return tuple(entries)


def _with_names(doing: str, named: str) -> tuple[Entry, ...]:
    """What people use for names today, and what the series has."""
    return (
        Entry("stock DCP", "stock", f"dcp {doing}"),
        Entry("stock _NamedOptimizer", "stock", f"_NamedOptimizer {doing}"),
        Entry("torchrec KeyedOptimizer", "stock", f"torchrec {doing}"),
        Entry("DCP", "patched", f"dcp {doing}", "stock DCP"),
        Entry("named", "patched", named, "stock DCP"),
    )


def _steps(kind: str) -> tuple[Entry, ...]:
    return (
        Entry("stock unnamed", "stock", f"{kind} step unnamed"),
        Entry("stock named", "stock", f"{kind} step named"),
        Entry("unnamed", "patched", f"{kind} step unnamed", "stock unnamed"),
        Entry("named", "patched", f"{kind} step named", "stock named"),
    )


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
        "load_optimizers",
        "`load_state_dict()` of each optimizer",
        _by_optimizer(),
        (3_000,),
        by_entry=True,
    ),
    Contest(
        "get_by_name",
        "A state dict with names",
        _with_names("get", "state_dict named"),
        (10, 100, 1_000, 8_000),
        plotted=True,
    ),
    Contest(
        "set_by_name",
        "Load it by name, into an optimizer with state",
        _with_names("set", "load named"),
        (10, 100, 1_000, 8_000),
    ),
    Contest(
        "resume_by_name",
        "Resume: construct an optimizer and load it by name",
        _with_names("resume", "resume by name"),
        (10, 100, 1_000, 8_000),
        plotted=True,
    ),
    Contest("sgd_step", "`SGD.step()` with momentum", _steps("sgd"), (10, 100, 1_000)),
    Contest("adam_step", "`Adam.step()`", _steps("adam"), (10, 100, 1_000)),
    Contest("adamw_step", "`AdamW.step()`", _steps("adamw"), (10, 100, 1_000)),
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
