"""The command line: ``python -m tools``."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from tools import (
    apply,
    backend,
    base,
    branch,
    check,
    export,
    fetch,
    layout,
    port,
    releases,
    relied_on,
    series,
    tree,
    view,
)
from tools.errors import REPORTED, ToolError, report
from tools.releases import Release
from tools.status import status


_EXAMPLES = f"""\
examples:
  python -m tools materialize          PyTorch {releases.DEFAULT} and the series in build/tree
  python -m tools materialize --source ~/pytorch
                                       the same on a checkout of PyTorch
  python -m tools test -k adam         run test/test_optim.py on the tree
  python -m tools python train.py      run a script on the tree
  python -m tools types                check the types of the overlay on the tree
  python -m tools export               the commits back to patches/ and torch_overlay/
  python -m tools check                what must hold before the series is sent
  python -m tools branch ~/pytorch     the series as a branch in a checkout of PyTorch
  python -m tools wheel                a patched wheel in dist/
  python -m tools status               which torch is installed
  python -m tools apply                the series over the installed torch, in place

to change a patch:
  python -m tools materialize
  cd build/tree                        edit, then
  git commit -a --fixup=COMMIT         COMMIT is the patch's; 'git log' shows it
  git rebase -i --autosquash tags/base
  cd ../.. && python -m tools export

A commit on top of the last becomes a new patch. New files belong to the overlay,
whichever commit adds them.
"""

_PASSED_ON = ("test", "python", "types")

#: Much of torch has no annotations to be strict about.
_TYPES = ("--strict", "--allow-untyped-calls", "--follow-imports=silent")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments (Sequence[str], optional): the command line without the
            program's name; ``sys.argv`` by default.

    Returns:
        int: the exit status; 1 after an error, which is printed in one message.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    rest: list[str] = []
    if words and words[0] in _PASSED_ON and words[1:2] not in (["-h"], ["--help"]):
        # argparse would take options meant for pytest as its own.
        words, rest = words[:1], words[1:]
    options = _parser().parse_args(words)
    options.rest = rest
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except REPORTED as error:
        return report(error)


def _materialize(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    sources = _sources(options)
    patches = tree.materialize(
        sources, options.into, release=options.release, force=options.force
    )
    print(
        f"{_relative(options.into)}: PyTorch {options.release} ({len(sources)} files), "
        f"the overlay and {_count(len(patches), 'patch', 'patches')} as commits on "
        f"branch {tree.BRANCH}, in {_since(start)}."
    )
    return 0


def _port(options: argparse.Namespace) -> int:
    if options.go_on:
        left_out = port.go_on(options.into)
    elif options.release is None:
        raise ToolError("Name the release to port to, or say '--continue'.")
    else:
        left_out = _begin_port(options)
    for name in left_out:
        print(f"left out {name}")
    print(
        f"{_relative(options.into)} holds the series on that release. Look at it, and "
        f"run 'python -m tools export --tree {_relative(options.into)}'."
    )
    return 0


def _begin_port(options: argparse.Namespace) -> list[str]:
    start = port.neighbor(options.release)
    running = Release(options.release, sys.version_info[:2])
    wheel = options.base_wheel or fetch.python_files(running)
    print(f"From PyTorch {start.version} to {options.release}.", flush=True)
    return port.port(
        Release(options.release, tree.oldest_python(wheel)),
        tree.wheel_sources(wheel, options.release),
        start,
        tree.wheel_sources(fetch.python_files(start), start.version),
        options.into,
        force=options.force,
    )


def _branch(options: argparse.Namespace) -> int:
    if options.keep:
        _print_changed(branch.keep(options.checkout))
        return 0
    if options.go_on:
        lines = branch.go_on(options.checkout)
    else:
        release = releases.newest()
        if options.release:
            release = releases.find(options.release)
        lines = branch.branch(
            options.checkout,
            series.sections(release.version),
            tree.wheel_sources(fetch.python_files(release), release.version),
            onto=options.onto,
            author=options.author,
            fine=options.fine,
        )
    print("\n".join(lines))
    commits = sum(not line.startswith(branch.LEFT_OUT) for line in lines)
    print(
        f"{_relative(options.checkout)}: {_count(commits, 'commit', 'commits')} on "
        f"branch {branch.NAME}. Nothing was pushed."
    )
    return 0


def _export(options: argparse.Namespace) -> int:
    apart = export.apart(options.tree)
    changed = export.export(options.tree, release=options.release, force=options.force)
    unknown = []
    for release in releases.supported():
        if release.version == tree.release_of(options.tree):
            continue
        wheel = fetch.cached(release)
        if wheel is None:
            unknown.append(release.version)
            continue
        try:
            sources = tree.wheel_sources(wheel, release.version)
            changed += export.refresh(release.version, sources, options.tree)
        except ToolError as error:
            print(f"PyTorch {release.version}: {error}", file=sys.stderr)
    _print_changed(sorted({*changed}))
    if not changed:
        print("Nothing to write: patches and overlay are as the commits are.")
    for slug, others in apart.items():
        print(f"Not changed, for it has its own {slug}: {', '.join(others)}.")
    if unknown:
        print(f"Not looked at, for lack of a wheel: {', '.join(unknown)}.")
    return 0


def _print_changed(paths: Iterable[Path]) -> None:
    for path in paths:
        print(f"{'wrote' if path.exists() else 'removed'} {_relative(path)}")


def _check(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    sources, unknown = _sources_to_check(options)
    if options.record:
        relied_on.record(sources)
    subjects = [
        check.Subject(release, read, series.patches(release.version))
        for release, read in sources.items()
    ]
    failed = 0
    for title, problems in check.report(subjects):
        print(f"{'FAIL' if problems else 'ok  '}  {title}", flush=True)
        for problem in problems:
            print(f"      {problem}")
        failed += bool(problems)
    patches = _count(max(len(s.patches) for s in subjects), "patch", "patches")
    overlay = _count(len(series.overlay_files()), "overlay file", "overlay files")
    where = ", ".join(release.version for release in sources)
    verdict = f"{failed} of {len(check.CHECKS)} checks failed" if failed else "all well"
    print(f"{patches} and {overlay} on PyTorch {where}: {verdict}, in {_since(start)}.")
    if unknown:
        print(f"Not checked, for lack of a wheel: {', '.join(unknown)}; see '--all'.")
    return 1 if failed else 0


def _sources_to_check(
    options: argparse.Namespace,
) -> tuple[dict[Release, Mapping[str, bytes]], list[str]]:
    """The files of each release to check; the releases that were left out."""
    if options.source:
        release = releases.find(options.release or releases.DEFAULT)
        return {release: tree.checkout_sources(options.source)}, []
    named = base.named_wheel(options.base_wheel)
    # As in torch-2.14.1+cpu-cp311-....whl
    of_named = named and releases.find(named.name.split("-")[1])
    only = of_named if options.base_wheel else None
    if options.release:
        only = releases.find(options.release)
    found: dict[Release, Mapping[str, bytes]] = {}
    unknown: list[str] = []
    for release in [only] if only else releases.supported():
        needed = options.all or release == only or release.version == releases.DEFAULT
        wheel = fetch.cached(release)
        if named and release == of_named:
            wheel = named
        elif needed and not wheel:
            wheel = fetch.python_files(release)
        if wheel:
            found[release] = tree.wheel_sources(wheel, release.version)
        else:
            unknown.append(release.version)
    return found, unknown


def _test(options: argparse.Namespace) -> int:
    # Options alone, e.g. '-k adam', choose among the tests of the suite.
    named = any(Path(word.partition("::")[0]).exists() for word in options.rest)
    suite = [] if named else [str(layout.ROOT / "test" / "test_optim.py")]
    return _run(["-m", "pytest", *suite, *options.rest])


def _python(options: argparse.Namespace) -> int:
    return _run(options.rest)


def _types(options: argparse.Namespace) -> int:
    modules = [
        word for name in tree.new_modules() for word in ("-m", _module_name(name))
    ]
    return _run(["-m", "mypy", *_TYPES, *modules, *options.rest])


def _module_name(path: str) -> str:
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _run(arguments: Sequence[str]) -> int:
    patched = view.build("patched", view.VIEWS / "patched")
    environment = view.environment(patched)
    # mypy has a variable of its own.
    paths = [str(patched), os.environ.get("MYPYPATH", "")]
    environment["MYPYPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, check=False).returncode


def _status(options: argparse.Namespace) -> int:
    found = status()
    print(found.text)
    return 0 if found.current else 1


def _apply(options: argparse.Namespace) -> int:
    print(apply.revert() if options.revert else apply.apply())
    return 0


def _wheel(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    built = backend.make(backend.start(vars(options)), options.dist_dir)
    print(f"{_relative(built)}, in {_since(start)}.")
    return 0


def _sources(options: argparse.Namespace) -> Mapping[str, bytes]:
    if options.source:
        return tree.checkout_sources(options.source)
    release = releases.find(options.release)
    wheel = base.named_wheel(options.base_wheel) or fetch.python_files(release)
    return tree.wheel_sources(wheel, release.version)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools",
        description="Work on the series of patches that names optimizer state.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(
        name: str, run: Callable[[argparse.Namespace], int], help: str, more: str = ""
    ) -> argparse.ArgumentParser:
        description = f"{help[0].upper()}{help[1:]}. {more}".strip()
        command = commands.add_parser(name, help=help, description=description)
        command.set_defaults(command=run)
        return command

    command = add(
        "materialize",
        _materialize,
        "write base, overlay and patches as commits into a git repository",
        "A tree whose commits or changes were not exported is never replaced.",
    )
    _add_base(command)
    _add_release(command)
    _add_into(command)

    command = add(
        "port",
        _port,
        "lay the series over a release that it is not made for",
        "It is merged by git, and stops where a person is needed. 'export' then "
        "writes what differs.",
    )
    command.add_argument("release", nargs="?", help="the release, such as 2.14.1")
    command.add_argument(
        "--continue", dest="go_on", action="store_true", help="go on with a port"
    )
    command.add_argument(
        "--base-wheel",
        type=Path,
        metavar="FILE",
        help="a wheel of the release, for any machine; default: pip downloads it",
    )
    _add_into(command)

    command = add(
        "export",
        _export,
        "write the tree's commits back to patches/ and torch_overlay/",
        "The same commits give the same bytes. A change is one of all releases that "
        "have the same patch; of a port, only what differs is written, to "
        "patches/RELEASE/.",
    )
    command.add_argument(
        "--tree",
        type=Path,
        default=tree.TREE,
        metavar="DIR",
        help="the materialized tree; default: build/tree",
    )
    command.add_argument(
        "--release", help="refuse unless the tree was made for this release"
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="replace also what was changed in both folders since the tree was made",
    )

    command = add(
        "branch",
        _branch,
        "make a branch of the series in a checkout of PyTorch",
        "It has a commit for each section of patches/series, with its tests. "
        "Where upstream has moved, it stops in the middle of 'git cherry-pick'. Nothing "
        "is pushed.",
    )
    command.add_argument("checkout", type=Path, help="the checkout; without changes")
    command.add_argument(
        "--onto",
        default="HEAD",
        metavar="REVISION",
        help="what the branch begins at; default: HEAD",
    )
    command.add_argument(
        "--release",
        help="whose patches to take; default: those of the newest release",
    )
    command.add_argument(
        "--fine", action="store_true", help="a commit for each patch instead"
    )
    command.add_argument(
        "--author",
        default=f"{tree.AUTHOR} <{tree.EMAIL}>",
        metavar="'NAME <MAIL>'",
        help="who the commits are by; default: the author of the patches",
    )
    command.add_argument(
        "--continue", dest="go_on", action="store_true", help="go on after a conflict"
    )
    command.add_argument(
        "--keep",
        action="store_true",
        help="write what is committed above the series to patches/source-only",
    )

    command = add(
        "check",
        _check,
        "check that the series holds what it promises",
        "Nothing in the repository or the tree is changed.",
    )
    _add_base(command)
    which = command.add_mutually_exclusive_group()
    which.add_argument(
        "--release",
        help="one PyTorch release; default: all whose wheel is in the cache",
    )
    which.add_argument(
        "--all", action="store_true", help="all releases; fetch what is not there"
    )
    command.add_argument(
        "--record",
        action="store_true",
        help=f"write how the functions in patches/{relied_on.FILE} are; read them first",
    )

    add(
        "test",
        _test,
        "run pytest on the tree, without building a wheel",
        "What follows is given to pytest; default: test/test_optim.py. The installed "
        "torch, of the same release, provides the compiled parts.",
    ).add_argument("rest", nargs="*", metavar="ARGUMENT")

    add(
        "python",
        _python,
        "run Python on the tree, without building a wheel",
        "What follows is given to the interpreter.",
    ).add_argument("rest", nargs="*", metavar="ARGUMENT")

    add(
        "types",
        _types,
        "check the types of the overlay's modules on the tree with mypy",
        "What follows is given to mypy.",
    ).add_argument("rest", nargs="*", metavar="ARGUMENT")

    add(
        "status",
        _status,
        "say which torch is installed, and whether it is patched",
        "The exit status is 0 if it holds the series as it is in this repository.",
    )

    command = add(
        "apply",
        _apply,
        "lay the series over the installed torch, in place",
        "All files that it touches must be, byte for byte, those of a release that the "
        "series is for, or of an earlier apply. Their originals are kept. A torch that "
        "pip can get is better served by 'pip install .'.",
    )
    command.add_argument(
        "--revert", action="store_true", help="put the original files back"
    )

    command = add(
        "wheel",
        _wheel,
        "build the patched torch wheel",
        f"Default: for PyTorch {releases.DEFAULT}, or what the environment names.",
    )
    backend.add_start(command)
    command.add_argument(
        "-d",
        "--dist-dir",
        type=Path,
        default=layout.ROOT / "dist",
        metavar="DIR",
        help="the folder for the wheel; default: dist",
    )
    return parser


def _add_base(command: argparse.ArgumentParser) -> None:
    one_of = command.add_mutually_exclusive_group()
    one_of.add_argument(
        "--base-wheel",
        type=Path,
        metavar="FILE",
        help=f"the official wheel; default: ${base.VARIABLE}, or else pip downloads it",
    )
    one_of.add_argument(
        "--source",
        type=Path,
        metavar="DIR",
        help="a git checkout of PyTorch, in place of a wheel",
    )


def _add_into(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--into",
        type=Path,
        default=tree.TREE,
        metavar="DIR",
        help="where the tree goes; default: build/tree",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="replace a tree, and throw away what was not exported",
    )


def _add_release(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--release",
        default=releases.DEFAULT,
        help=f"the PyTorch release; default: {releases.DEFAULT}",
    )


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _since(start: float) -> str:
    return f"{time.perf_counter() - start:.1f} s"


def _relative(path: Path) -> str:
    """A path as its reader would type it."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else path)


if __name__ == "__main__":
    sys.exit(main())
