"""What is compared with what, and what is promised about the ratio."""

from dataclasses import dataclass
from typing import Literal, TypeAlias


Kind: TypeAlias = Literal["stock", "patched"]
KINDS: tuple[Kind, ...] = ("stock", "patched")

#: Up to this number of parameters, a round takes seconds at most.
SHORT = 10_000


#: The seconds to measure for; and beside a call that takes seconds, so that no burst of
#: other work hits only one of the two.
ENOUGH, LONG = 0.02, 2.0


@dataclass(frozen=True)
class Call:
    """A workload, in a process with one of the two torches, at one size."""

    kind: Kind
    workload: str
    #: The number of parameters.
    size: int = 0
    #: The seconds to measure for; shorter calls are repeated.
    enough: float = ENOUGH


@dataclass(frozen=True)
class Row:
    """One ratio, and its target."""

    what: str
    #: What is compared (``ours``), and with what.
    base: Call
    ours: Call
    target: float
    #: Whether the table in the project's README has it.
    in_readme: bool = False

    @property
    def size(self) -> int:
        """The larger number of parameters."""
        return max(self.base.size, self.ours.size)


@dataclass(frozen=True)
class Section:
    """Rows that are measured in one way, and shown in one table."""

    key: str
    title: str
    #: What the columns of ``base`` and ``ours`` show.
    columns: tuple[str, str]
    rows: tuple[Row, ...]
    #: Whether the ratio is base / ours, and the target the least that it may be;
    #: else it is ours / base, and the target the most.
    faster: bool = False
    #: Whether values are counts, so that one round is enough; else they are seconds.
    exact: bool = False
    #: Whether values are divided by the number of parameters.
    per_parameter: bool = False

    def groups(self, largest: int) -> list[list[Row]]:
        """The rows that are measured in the same rounds: not short with long ones.

        Args:
            largest (int): the number of parameters above which rows are left
                out.
        """
        short: list[Row] = []
        long: list[Row] = []
        for row in self.rows:
            if row.size <= largest:
                (short if row.size <= SHORT else long).append(row)
        return [rows for rows in (short, long) if rows]


STOCK_AND_OURS = ("stock", "with the series")


def _pair(
    what: str,
    workload: str,
    size: int,
    target: float,
    base: str = "",
    shown: int = 0,
    enough: float = ENOUGH,
) -> Row:
    """A workload with the series against one of stock.

    Args:
        what (str): what it does.
        workload (str): the workload.
        size (int): the number of parameters.
        target (float): the target.
        base (str): stock's workload, if it is another one.
        shown (int): the size that the project's README has.
        enough (float): the seconds to measure for.
    """
    return Row(
        f"{what}, {size:,} parameters",
        Call("stock", base or workload, size, enough),
        Call("patched", workload, size, enough),
        target,
        in_readme=size == shown,
    )


def _growth(what: str, workload: str, small: int, large: int) -> Row:
    base, ours = (Call("patched", workload, size, LONG) for size in (small, large))
    return Row(what, base, ours, target=1.5)


def _load(how: str, workload: str, *sizes: int) -> list[Row]:
    # Stock loads by index, whether there are names or not.
    return [
        _pair(
            f"load {how}",
            workload,
            size,
            target=100 if size == 30_000 else 1,
            base="load index",
            shown=max(size, 1_000),
            enough=LONG if size == 30_000 else ENOUGH,
        )
        for size in sizes
    ]


SECTIONS = (
    Section(
        "load",
        "`load_state_dict()`",
        STOCK_AND_OURS,
        (
            *_load("by index", "load index", 100, 1_000, 30_000),
            *_load("by name", "load name", 100, 1_000, 30_000),
            *_load("by name, in another order", "load shuffled", 30_000),
        ),
        faster=True,
    ),
    Section(
        "load_growth",
        "Time per parameter of `load_state_dict()`",
        ("10,000 parameters", "1,000,000 parameters"),
        (
            _growth("by index", "load index", 10_000, 1_000_000),
            _growth("by name", "load name", 10_000, 1_000_000),
        ),
        per_parameter=True,
    ),
    Section(
        "groups",
        "Construction with one param group per parameter",
        STOCK_AND_OURS,
        tuple(
            _pair(
                f"one param group each, {how} names",
                f"groups {way}",
                8_000,
                50,
                base="groups index",
                shown=8_000 if way == "name" else 0,
                enough=LONG,
            )
            for way, how in (("index", "without"), ("name", "with"))
        ),
        faster=True,
    ),
    Section(
        "groups_growth",
        "Time per parameter of construction with one param group per parameter",
        ("10,000 parameters", "100,000 parameters"),
        (
            _growth("without names", "groups index", 10_000, 100_000),
            _growth("with names", "groups name", 10_000, 100_000),
        ),
        per_parameter=True,
    ),
    Section(
        "construct",
        "Construction with names, in one param group",
        STOCK_AND_OURS,
        tuple(
            _pair("construct with names", "construct name", size, 1.1, shown=1_000)
            for size in (100, 1_000, 10_000)
        ),
    ),
    Section(
        "state_dict",
        "`state_dict()` with names, against stock's with indices",
        STOCK_AND_OURS,
        tuple(
            _pair(
                "`state_dict()`",
                "state_dict name",
                size,
                1.1,
                base="state_dict index",
                shown=1_000,
            )
            for size in (100, 1_000, 10_000)
        ),
    ),
    Section(
        "dcp",
        "Distributed checkpoints of an optimizer with names",
        STOCK_AND_OURS,
        tuple(
            _pair(
                f"`{doing}_optimizer_state_dict()`",
                f"dcp {doing}",
                size,
                1.1,
                shown=8_000,
            )
            for size in (1_000, 8_000)
            for doing in ("get", "set")
        ),
    ),
    Section(
        "dcp_size",
        "Bytes per parameter of a flattened distributed checkpoint, beside tensors",
        ("100 parameters", "1,000 parameters"),
        (
            Row(
                "with names",
                Call("patched", "flattened bytes", 100),
                Call("patched", "flattened bytes", 1_000),
                1.1,
            ),
        ),
        exact=True,
    ),
    Section(
        "guards",
        "Guards of a compiled step",
        ("without names", "with names"),
        tuple(
            Row(
                f"`{kind}.step()`",
                Call("patched", f"guards {kind} index", 10),
                Call("patched", f"guards {kind} name", 10),
                1,
            )
            for kind in ("SGD", "AdamW")
        ),
        exact=True,
    ),
    Section(
        "step",
        "Instructions of a step",
        STOCK_AND_OURS,
        tuple(
            Row(
                f"`{kind}.step()`, {how} names",
                Call("stock", f"{kind} {way}"),
                Call("patched", f"{kind} {way}"),
                1.005,
            )
            for kind in ("SGD", "Adam", "AdamW")
            for way, how in (("index", "without"), ("name", "with"))
        ),
        exact=True,
    ),
    Section(
        "wheel",
        "Time to make a patched wheel from the official one",
        ("the other way", "patched wheel"),
        tuple(
            Row(what, Call("stock", way), Call("patched", "build"), target)
            for what, way, target in (
                ("against a plain copy of the file", "copy", 5),
                ("against unpacking and packing it", "repack", 0.1),
            )
        ),
    ),
)
