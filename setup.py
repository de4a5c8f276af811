"""Build the patched torch wheel: ``python setup.py bdist_wheel``.

This is the command that builds PyTorch itself, without setuptools: the wheel is
made by ``tools/``. ``pip install .`` builds the same one.
"""

import argparse
import sys
from pathlib import Path


# Not there in an isolated interpreter ("python -I").
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tools import releases
from tools.backend import add_start, make, start
from tools.errors import REPORTED, report
from tools.patched import Series, labeled


_EPILOG = f"""\
Without any of them, the environment is asked (OPTIM_NAMES_SOURCE, then
OPTIM_NAMES_BASE_WHEEL, then OPTIM_NAMES_RELEASE), and without these it is
PyTorch {releases.DEFAULT}. pip downloads the official wheel for this interpreter, as
your pip configuration says, and the file is kept in build/cache (or
OPTIM_NAMES_CACHE).
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="setup.py",
        description="Build torch with parameter names in optimizers.",
        epilog="To install it, run 'pip install .'; 'setup.py bdist_wheel --help' "
        "tells what it starts from.",
        allow_abbrev=False,
    )
    parser.add_argument("--name", action="version", version="torch")
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(dest="command", metavar="bdist_wheel")
    build = commands.add_parser(
        "bdist_wheel",
        help="write the patched wheel",
        description="Write the patched wheel and print its path. With --source,\n"
        "arguments that are not listed here go to PyTorch's own setup.py.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    build.add_argument(
        "-d",
        "--dist-dir",
        type=Path,
        default=Path("dist"),
        metavar="DIR",
        help="the folder for the wheel (default: dist)",
    )
    add_start(build)
    return parser


def main(arguments: list[str]) -> int:
    """Run the command line.

    Args:
        arguments (list[str]): what follows the name of the script.

    Returns:
        int: the exit status.
    """
    commands = [word for word in arguments if not word.startswith("-")]
    if commands and "bdist_wheel" not in commands:
        print(
            f"error: '{commands[0]}' is not supported here; build with 'python setup.py "
            "bdist_wheel' or install with 'pip install .'.",
            file=sys.stderr,
        )
        return 2
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.version:
        release = start({}).wanted.release
        print(labeled(release, Series(release).label))
        return 0
    if options.command is None:
        parser.print_help()
        return 2
    print(make(start(vars(options)), options.dist_dir, rest))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except REPORTED as error:
        sys.exit(report(error))
