"""What is promised about speed, and whether the figures keep it."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import step_instructions
from rounds import Figure, interquartile_range


@dataclass(frozen=True)
class Verdict:
    """Whether one target is met."""

    target: str
    found: str
    #: None if this run did not measure it.
    met: bool | None


#: From this size on, what a call costs once does not matter per parameter.
_MANY = 1_000


#: By how much equal code differs on a clock: the two torches' parameters lie at
#: different places in memory. Instructions say more.
_CLOCK_NOISE = 1.05


def verdicts(
    figures: Sequence[Figure],
    memory: Mapping[str, Any],
    imports: Mapping[str, list[float]],
    instructions: Mapping[str, Any],
) -> list[Verdict]:
    """Judge the figures of a run.

    Args:
        figures (sequence of Figure): from all contests.
        memory (Mapping): by workload and size, e.g. ``"load named 1000"``, the
            bytes per parameter of a load with the series.
        imports (Mapping): seconds of ``import torch`` for each kind.
        instructions (Mapping): what :func:`step_instructions.measure` found, or
            ``"missing"`` with the reason.

    Returns:
        list of Verdict: one for each target.
    """
    found = {(f.contest, f.label, f.size): f for f in figures}
    # Look-ups in a random order miss the caches; how often, is the machine's.
    loads = {"unnamed": 1.5, "named": 1.5, "named, shuffled": 3.0}
    plain = ("unnamed", "named")
    return [
        _fastest(
            "load at 30,000 parameters at least 100 times faster than stock",
            [(label, found.get(("load", label, 30_000))) for label in loads],
            100,
        ),
        *(
            _growth(
                f"load ({label}): time per parameter at 1,000,000 at most {most} times "
                "that at 10,000",
                found.get(("load", label, 10_000)),
                found.get(("load", label, 1_000_000)),
                most,
            )
            for label, most in loads.items()
        ),
        _memory(memory),
        _fastest(
            "8,000 one-parameter groups built at least 50 times faster than stock",
            [(k, found.get(("construct_groups", k, 8_000))) for k in plain],
            50,
        ),
        _below(
            "100,000 one-parameter groups built in less than 2 s",
            [
                (k, f.median)
                for k in plain
                if (f := found.get(("construct_groups", k, 100_000)))
            ],
            2.0,
            "s",
        ),
        _ratios(
            "8,000 groups added one by one take at most stock's time (within 10%)",
            [
                f
                for f in figures
                if (f.contest, f.size) == ("add_groups", 8_000) and f.speedups
            ],
            1.1,
        ),
        _ratios(
            "state_dict() named at most 1.1 times stock's indexed, at each size",
            [f for f in figures if (f.contest, f.label) == ("state_dict", "named")],
            1.1,
        ),
        _ratios(
            "construction named at most 1.1 times stock's named, at each size",
            [f for f in figures if (f.contest, f.label) == ("construct", "named")],
            1.1,
        ),
        _below(
            f"matching alone at most 2 µs per parameter, from {_MANY:,} parameters on",
            [
                (f"{f.size:,}", f.median / f.size * 1e6)
                for f in figures
                if f.label == "matching alone" and f.size >= _MANY
            ],
            2.0,
            "µs",
        ),
        *_by_name(figures, found),
        *(
            _typical_ratio(
                f"{name}.step() {label} takes stock's time: the ratio, its median over "
                f"the sizes at most {_CLOCK_NOISE}",
                [f for f in figures if (f.contest, f.label) == (contest, label)],
                _CLOCK_NOISE,
            )
            for name, contest in (
                ("SGD", "sgd_step"),
                ("Adam", "adam_step"),
                ("AdamW", "adamw_step"),
            )
            for label in plain
        ),
        _instructions(instructions),
        _import(imports),
    ]


def _by_name(
    figures: Sequence[Figure], found: Mapping[tuple[str, str, int], Figure]
) -> Iterable[Verdict]:
    for contest, doing in (
        ("get_by_name", "named state_dict()"),
        ("set_by_name", "named load_state_dict()"),
        ("resume_by_name", "constructing and named load_state_dict()"),
    ):
        ours = [f for f in figures if (f.contest, f.label) == (contest, "named")]
        yield _fastest(
            f"{doing} at least 20 times faster than stock's DCP, from {_MANY:,} "
            "parameters on",
            [(f"{f.size:,}", f) for f in ours if f.speedups and f.size >= _MANY],
            20,
        )
        for other_label, name in (
            ("stock _NamedOptimizer", "_NamedOptimizer"),
            ("torchrec KeyedOptimizer", "torchrec's KeyedOptimizer"),
        ):
            yield _below(
                f"{doing} takes less time than {name}'s, at each size",
                [
                    (f"{f.size:,}", f.median / other.median)
                    for f in ours
                    if (other := found.get((contest, other_label, f.size)))
                ],
                1.0,
                "times",
            )


def _verdict(target: str, parts: Sequence[str], met: bool) -> Verdict:
    if not parts:
        return Verdict(target, "not measured", None)
    return Verdict(target, ", ".join(parts), met)


def _fastest(
    target: str, figures: Sequence[tuple[str, Figure | None]], least: float
) -> Verdict:
    speedups = [(k, f.speedup) for k, f in figures if f and f.speedup is not None]
    return _verdict(
        target,
        [f"{label}: {speedup:.3g}" for label, speedup in speedups],
        all(speedup >= least for _, speedup in speedups),
    )


def _growth(
    target: str, small: Figure | None, large: Figure | None, most: float
) -> Verdict:
    if small is None or large is None:
        return _verdict(target, [], False)
    # Minutes apart, and not in turns: the machine may have changed. What disturbs only
    # adds time, so that the fastest rounds are those to compare.
    per_small = min(small.seconds) / small.size * 1e6
    per_large = min(large.seconds) / large.size * 1e6
    text = (
        f"{per_large / per_small:.2f} ({per_small:.2f} µs at {small.size:,}, "
        f"{per_large:.2f} µs at {large.size:,})"
    )
    return _verdict(target, [text], per_large <= most * per_small)


def _below(
    target: str, values: Sequence[tuple[str, float]], most: float, unit: str
) -> Verdict:
    parts = [f"{label}: {value:.2f} {unit}" for label, value in values]
    return _verdict(target, parts, all(value <= most for _, value in values))


def _ratios(target: str, figures: Sequence[Figure], most: float) -> Verdict:
    ratios = [(f"{f.label} at {f.size:,}", 1 / f.speedup) for f in figures if f.speedup]
    parts = [f"{label}: {ratio:.2f}" for label, ratio in ratios]
    return _verdict(target, parts, all(ratio <= most for _, ratio in ratios))


def _typical_ratio(target: str, figures: Sequence[Figure], most: float) -> Verdict:
    ratios = [(f.size, 1 / f.speedup) for f in figures if f.speedup]
    if not ratios:
        return _verdict(target, [], False)
    typical = statistics.median(ratio for _, ratio in ratios)
    parts = [f"{size:,}: {ratio:.2f}" for size, ratio in ratios]
    return _verdict(target, [f"{typical:.2f}", *parts], typical <= most)


def _instructions(instructions: Mapping[str, Any]) -> Verdict:
    target = (
        f"instructions of a step within {step_instructions.TOLERANCE:.1%} of stock's "
        "(SGD, Adam, AdamW)"
    )
    if "missing" in instructions or not instructions:
        return Verdict(target, instructions.get("missing", "not measured"), None)
    parts = [
        f"{optimizer} {way}: {ratio:.4f}"
        for (optimizer, way), ratio in step_instructions.ratios(instructions).items()
    ]
    return _verdict(target, parts, step_instructions.met(instructions))


def _memory(memory: Mapping[str, Any]) -> Verdict:
    found = {
        workload.removesuffix(" 1000000"): bytes_["extra"]
        for workload, bytes_ in memory.items()
        if workload.endswith(" 1000000")
    }
    return _verdict(
        "load of 1,000,000 parameters: at the peak at most 1,024 bytes per parameter "
        "beyond the state",
        [f"{workload}: {extra:.0f}" for workload, extra in found.items()],
        all(extra <= 1024 for extra in found.values()),
    )


def _import(imports: Mapping[str, list[float]]) -> Verdict:
    """Judge by pairs, since the machine changes from one minute to the next."""
    target = "import torch takes the same time, within noise"
    if not imports:
        return _verdict(target, [], False)
    differences = [p - s for s, p in zip(imports["stock"], imports["patched"])]
    differences.sort()
    middle = differences[len(differences) // 2]
    noise = interquartile_range(imports["stock"])
    text = (
        f"{middle * 1e3:+.0f} ms between two in turn, and {noise * 1e3:.0f} ms "
        "(interquartile range) between two of stock"
    )
    return _verdict(target, [text], middle <= noise)
