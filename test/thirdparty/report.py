"""Judge what two interpreters did with the same classes, and write it down."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reasons import REASONS, reason


@dataclass(frozen=True)
class Verdict:
    """What is known of a class after its checks.

    Attributes:
        name (str): the class.
        runs (bool): whether it takes steps on stock torch.
        as_stock (bool): without names, it computes, saves and loads as on stock.
        keyed (bool): with names, its state dict is keyed by them.
        assigned (bool): state that is loaded in another order lands by name.
        resumes (bool): a run resumed in another order goes on bit-equal.
        aligned (bool): it does if the file's names are put in that order.
        by_order (bool): on stock torch, without a checkpoint, parameters in another
            order end elsewhere.
        only_patched (list of str): what fails on patched torch only.
        finding (str): what went differently, in short.
    """

    name: str
    runs: bool
    as_stock: bool
    keyed: bool
    assigned: bool
    resumes: bool
    aligned: bool
    by_order: bool
    only_patched: list[str]
    finding: str


def judge(name: str, stock: Mapping[str, Any], patched: Mapping[str, Any]) -> Verdict:
    """Compare what a class did on stock and on patched torch."""
    same = ("unnamed", "round trip", "order")

    def good(check: str) -> bool:
        return all(patched[f"{form}: {check}"] == (True, None) for form in _FORMS)

    keys = [patched[f"{form}: keys"] for form in _FORMS]
    shuffled = patched["pairs: shuffled"]
    return Verdict(
        name=name,
        runs=stock["unnamed"][0],
        as_stock=all(stock[check] == patched[check] for check in same),
        keyed=all(ok and k["named"] and k["computes"] is None for ok, k in keys),
        assigned=good("assigned"),
        resumes=good("shuffled"),
        aligned=good("aligned"),
        by_order=stock["order"] != (True, None),
        only_patched=[
            f"{check}: {patched[check][1]}"
            for check in ("unnamed", "round trip", "pairs: same order")
            if stock[check] == (True, None) and patched[check] != (True, None)
        ],
        finding="" if shuffled[1] is None else _short(*shuffled),
    )


def _short(ran: bool, text: str) -> str:
    if ran:
        return text.partition(" in ")[0]
    return text.partition(":")[0]


def problems(package: str, verdicts: list[Verdict]) -> Iterator[str]:
    """What no known reason explains, and reasons that explain nothing.

    Args:
        package (str): the package.
        verdicts (list of Verdict): of all its classes.
    """
    for verdict in verdicts:
        about = f"{package}.{verdict.name}"
        known = reason(package, verdict.name)
        if not verdict.runs:
            yield f"{about} does not run on stock torch; see how catalog.py uses it"
        if not verdict.as_stock:
            yield f"{about} without names is not as on stock torch"
        if verdict.keyed != (known is None or known.keyed):
            yield f"{about}: keyed by name is {verdict.keyed}"
        # What a wrapper keeps under positions looks the same in any order, so
        # that only a failure to land by name can be measured.
        if (known is None or known.by_name) and not verdict.assigned:
            yield f"{about}: its state does not land by name"
        if known is None and not verdict.resumes:
            yield f"{about} does not go on bit-equal: {verdict.finding}"
        if known is not None and known.keyed and verdict.resumes:
            yield f"{about} goes on bit-equal; its reason is not needed any more"
        if known is not None and known.aligned and not verdict.aligned:
            yield f"{about} does not go on bit-equal with the names in its order"
        if known is not None and known.by_order and not verdict.by_order:
            yield f"{about} does not depend on the order of parameters"
        if bool(verdict.only_patched) != (known is not None and known.only_patched):
            yield f"{about} on patched torch only: {verdict.only_patched or 'nothing'}"
    names = {verdict.name for verdict in verdicts}
    for known in REASONS:
        for name in known.classes.get(package, ()):
            if name not in names:
                yield f"{package}.{name} has a reason, but was not found"


def table(
    results: Mapping[str, Mapping[str, Any]],
    verdicts: Mapping[str, list[Verdict]],
    not_run: Mapping[tuple[str, str], str],
) -> str:
    """The page with the results, in Markdown.

    Args:
        results (Mapping): by package, what the worker on patched torch wrote.
        verdicts (Mapping): by package, what came of it.
        not_run (Mapping): why a class was not run.
    """
    any_result = next(iter(results.values()))
    lines = [*_HEAD, *_summary(results, verdicts), "", *_EXPLAINED, ""]
    lines += ["## Exceptions", "", *_READ_AS, ""]
    for known in REASONS:
        lines += [*_exception(known, verdicts), ""]
    lines += ["## Not run", ""]
    for (package, name), why in not_run.items():
        lines += _wrapped(f"* `{package}.{name}`: {why}.")
    stateless = [
        f"{package}.{name}"
        for package, result in results.items()
        for name, checks in result["classes"].items()
        if reason(package, name) is None and checks["pairs: keys"][1]["stateless"]
    ]
    listed = ", ".join(f"`{name}`" for name in stateless)
    lines += ["", *_wrapped(f"Without state per parameter, as used here: {listed}.")]
    version = str(any_result["torch"])
    return "\n".join(lines).replace("{torch}", version) + "\n"


_FORMS = ("pairs", "mapping")

_HEAD = [
    "# Third-party optimizers",
    "",
    "<!-- Written by test/thirdparty/run.py --write; edit that. -->",
    "",
    "Optimizer classes of other packages on torch {torch}, stock and patched, as",
    "[`run.py`](../test/thirdparty/run.py) compares them.",
    "",
]

_EXPLAINED = [
    "Without names, all are bit for bit as on stock torch. With names,",
    "",
    "* **keyed**: they compute the same, and their state dicts are keyed by name;",
    "* **by name**: state loads by name into parameters in another order;",
    "* **bit-equal**: resumed in that order, a run ends as one that never stopped.",
]

_READ_AS = [
    "All other classes pass all three. In parentheses: the error, or the difference relative",
    "to the largest parameter, of a run resumed in another order.",
]


def _summary(
    results: Mapping[str, Mapping[str, Any]], verdicts: Mapping[str, list[Verdict]]
) -> Iterator[str]:
    yield "| package | classes | keyed | by name | bit-equal |"
    yield "|---|---|---|---|---|"
    for package, rows in verdicts.items():
        named = [v for v in rows if v.keyed]
        counts = (
            len(rows),
            len(named),
            sum(_lands_by_name(package, v) for v in named),
            sum(v.resumes for v in named),
        )
        cells = (f"{package} {results[package]['version']}", *map(str, counts))
        yield f"| {' | '.join(cells)} |"


def _lands_by_name(package: str, verdict: Verdict) -> bool:
    known = reason(package, verdict.name)
    return verdict.assigned and (known is None or known.by_name)


def _exception(known: Any, verdicts: Mapping[str, list[Verdict]]) -> Iterator[str]:
    yield from _wrapped(known.text)
    yield ""
    for package, rows in verdicts.items():
        classes: dict[str, list[str]] = {}
        for verdict in rows:
            if verdict.name in known.classes.get(package, ()):
                found = classes.setdefault(verdict.finding if known.keyed else "", [])
                found.append(f"`{verdict.name}`")
        if classes:
            parts = [
                ", ".join(names) + f" ({finding})" * bool(finding)
                for finding, names in classes.items()
            ]
            yield from _wrapped(f"* {package}: {'; '.join(parts)}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(
        text, 88, subsequent_indent="  " * text.startswith("*"), break_on_hyphens=False
    )
