"""Build PyTorch 2.6.0 from source, without and with the series, and test both.

Usage, as root: python3 .ci/source_build.py [--work DIR] [--no-tests]

The source is the source package of Debian 13, the one complete tree of PyTorch that a
package archive has: it takes libraries of the system in place of submodules. In
DIR this makes a Debian 13 with what the package needs to be built, compiles it
as it is, compiles it by this repository's ``python3 setup.py bdist_wheel --source``,
installs both wheels, and runs upstream's ``test/test_optim.py`` on both and this
repository's ``test/optim`` on the patched one.

What is there stays: a run that was stopped goes on where it was, and ccache finds what
was compiled before. Say it again after an edit of ``torch_overlay/``, and nothing is
compiled. ``DIR/logs`` has the output of each step.

It needs 15 GiB, Linux on x86-64, debootstrap, and a mirror of Debian, which is apt's own
unless ``--mirror`` names another one. docs/source-build.md has what came of it.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "test"))

import releases as prove  # noqa: E402


RELEASE = "2.6.0"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
WORK = CACHE / "optim-names" / "source-build"

SUITE = "trixie"

#: Besides what the package is built with: a compiler, and what the tests import.
PACKAGES = [
    "build-essential",
    "ca-certificates",
    "ccache",
    "dpkg-dev",
    "git",
    "python3-expecttest",
    "python3-filelock",
    "python3-fsspec",
    "python3-hypothesis",
    "python3-jinja2",
    "python3-networkx",
    "python3-numpy",
    "python3-packaging",
    "python3-pip",
    "python3-pytest",
    "python3-requests",
    "python3-sympy",
    "python3-typing-extensions",
    "python3-venv",
]

#: As the package is built, without what optimizers on a CPU have no use for.
SETTINGS = {
    "USE_SYSTEM_LIBS": "ON",
    "BLAS": "Generic",
    "GENERIC_BLAS_LIBRARIES": "blas",
    "ONNX_NAMESPACE": "onnx",
    "USE_DISTRIBUTED": "1",
    "USE_GLOO": "1",
    "USE_TENSORPIPE": "1",
    **dict.fromkeys(
        [
            "BUILD_TEST",
            "USE_CUDA",
            "USE_FBGEMM",
            "USE_FLASH_ATTENTION",
            "USE_GFLAGS",
            "USE_GLOG",
            "USE_ITT",
            "USE_KINETO",
            "USE_MEM_EFF_ATTENTION",
            "USE_MKLDNN",
            "USE_MPI",
            "USE_NNPACK",
            "USE_PYTORCH_QNNPACK",
            "USE_ROCM",
            "USE_VULKAN",
            "USE_XNNPACK",
        ],
        "0",
    ),
    "CFLAGS": "-I/usr",
    "CXXFLAGS": "-I/usr -Wno-dangling-reference",
    "CMAKE_PROJECT_INCLUDE": "/src/without-avx512.cmake",
}

INSTALL = f"""
apt-get update
apt-get install -y --no-install-recommends {" ".join(PACKAGES)}
apt-get build-dep -y --no-install-recommends pytorch
mkdir /src
"""

#: One copy of each kernel less to compile.
WITHOUT_AVX512 = """\
set(C_AVX512_FOUND FALSE CACHE BOOL "")
set(CXX_AVX512_FOUND FALSE CACHE BOOL "")
"""

#: The package makes the version itself, and links libraries by their place in the
#: system. A wheel needs the version that it is given, and libraries beside each other.
PREPARE = r"""
cd /src && rm -rf pytorch unpacked && apt-get source -qq pytorch && mv pytorch-* unpacked
cd unpacked
patch -R -p1 < debian/patches/2000-version.patch
sed -i 's/^set(CMAKE_INSTALL_RPATH "")/set(CMAKE_INSTALL_RPATH "$ORIGIN")/' \
    cmake/Dependencies.cmake
grep -q 'RPATH "$ORIGIN"' cmake/Dependencies.cmake
cd torch/csrc/jit/serialization
flatc --cpp --gen-mutable --scoped-enums mobile_bytecode.fbs
mv /src/unpacked /src/pytorch
"""

#: Where both builds compile, each in a folder of its own that is mounted there: some of
#: what is compiled has its path in it, and ccache finds it for both.
COPY = "/optim-names/build/source"

#: The two builds: where the command runs, and the command.
BUILDS = {
    "unpatched": (
        COPY,
        f"PYTORCH_BUILD_VERSION={RELEASE} PYTORCH_BUILD_NUMBER=1 python3 setup.py "
        "bdist_wheel --dist-dir /wheels/unpatched",
    ),
    "patched": (
        "/optim-names",
        "python3 setup.py bdist_wheel --source /src/pytorch --dist-dir /wheels/patched",
    ),
}

#: The mounts in it, and what it started, end with it.
_NAMESPACE = ("unshare", "--mount", "--pid", "--fork", "--kill-child")

_STEP = re.compile(r"^\[(\d+)/(\d+)\] ")


@dataclass(frozen=True)
class Machine:
    """A Debian of its own.

    Attributes:
        work (Path): the folder with it, and all that is kept.
    """

    work: Path

    @property
    def root(self) -> Path:
        """Its file system."""
        return self.work / "chroot"

    def run(
        self,
        title: str,
        script: str,
        folder: str = "/",
        *,
        name: str = "patched",
        **variables: str,
    ) -> int:
        """Run a script in it, show how far it is, and keep what it prints.

        Args:
            title (str): what it does; its log is named so.
            script (str): for bash, which stops at the first error.
            folder (str): where it runs.
            name (str): which build's folder is mounted; one of :data:`BUILDS`.
            variables (str): of its environment.

        Returns:
            int: how many steps ninja ran.

        Raises:
            SystemExit: if it fails.
        """
        log = self.work / "logs" / f"{title.replace(' ', '-')}.log"
        start = last = time.monotonic()
        steps = 0
        print(f"== {title}", flush=True)
        with (
            log.open("w") as written,
            self._popen(script, folder, name, variables) as process,
        ):
            assert process.stdout is not None
            for line in process.stdout:
                written.write(line)
                if found := _STEP.match(line):
                    steps += 1
                    if time.monotonic() > last + 60:
                        last = time.monotonic()
                        minutes = (last - start) / 60
                        print(f"   {found[0].strip()} in {minutes:.0f} min", flush=True)
        if process.returncode:
            tail = "".join(log.read_text().splitlines(keepends=True)[-15:])
            sys.exit(f"{tail}error: '{title}' failed; {log} has all that it printed.")
        print(f"   done in {time.monotonic() - start:.0f} s", flush=True)
        return steps

    def read(self, script: str) -> str:
        """What a script prints."""
        with self._popen(script, "/", "patched", {}) as process:
            return process.communicate()[0]

    def _popen(
        self, script: str, folder: str, name: str, variables: dict[str, str]
    ) -> "subprocess.Popen[str]":
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            # Both are part of what ccache looks things up by
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "CCACHE_DIR": "/ccache",
            "CCACHE_MAXSIZE": "10G",
            "CCACHE_NOHASHDIR": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **variables,
        }
        mounts = {
            "/dev": "--rbind /dev",
            "/proc": "-t proc proc",
            "/tmp": "-t tmpfs tmpfs",
            "/ccache": f"--bind {shlex.quote(str(self.work / 'ccache'))}",
            "/wheels": f"--bind {shlex.quote(str(self.work / 'wheels'))}",
            "/optim-names": f"--bind {shlex.quote(str(ROOT))}",
            # Not the clone's own, so that all clones share them
            "/optim-names/build": f"--bind {shlex.quote(str(self.work / 'build'))}",
            COPY: f"--bind {shlex.quote(str(self.work / 'copies' / name))}",
        }
        lines = ["set -e", f"cd {shlex.quote(str(self.root))}"]
        for place, what in mounts.items():
            lines += [f"mkdir -p .{place}", f"mount {what} .{place}"]
        settings = " ".join(shlex.quote(f"{k}={v}") for k, v in environment.items())
        inner = shlex.quote(f"set -e; cd {folder}\n{script}")
        lines.append(f"exec env -i {settings} chroot . bash -c {inner}")
        return subprocess.Popen(
            [*_NAMESPACE, "bash", "-c", "\n".join(lines)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )


def main() -> int:
    """Build and test.

    Returns:
        int: the exit status, that of :func:`test`.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--work", type=Path, default=WORK, metavar="DIR", help=f"default: {WORK}"
    )
    parser.add_argument("--mirror", help="a mirror of Debian; default: apt's own")
    parser.add_argument(
        "--no-tests", dest="tests", action="store_false", help="stop at the wheels"
    )
    options = parser.parse_args()
    if os.geteuid() or not shutil.which("debootstrap"):
        sys.exit("error: Run this as root, with debootstrap installed.")
    machine = Machine(options.work.resolve())
    folders = (
        "build",
        "ccache",
        "copies/patched",
        "copies/unpatched",
        "logs",
        "wheels",
    )
    for folder in folders:
        (machine.work / folder).mkdir(parents=True, exist_ok=True)
    if not machine.root.exists():
        bootstrap(machine, options.mirror or mirror())
    if not (machine.root / "src").exists():
        machine.run("packages", INSTALL)
    if not (machine.root / "src" / "pytorch").exists():
        machine.run("source", PREPARE)
    (machine.root / "src" / "without-avx512.cmake").write_text(WITHOUT_AVX512)
    figures = [build(machine, name) for name in BUILDS]
    failed = 0
    if options.tests:
        for name in BUILDS:
            install(machine, name)
        failed = test(machine)
    used = subprocess.run(["du", "-sh", machine.work], capture_output=True, text=True)
    print("\n".join([*filter(None, figures), f"Disk: {used.stdout.split()[0]}"]))
    return failed


def mirror() -> str:
    """Where apt gets Debian from."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    found = subprocess.run(command, capture_output=True, text=True).stdout.split()
    if not found:
        sys.exit("error: apt knows no mirror of Debian; name one with --mirror.")
    return found[0]


def bootstrap(machine: Machine, site: str) -> None:
    """Make the Debian.

    Args:
        machine (Machine): where.
        site (str): the mirror.
    """
    new = machine.root.with_name("chroot.new")
    shutil.rmtree(new, ignore_errors=True)
    print(f"== {SUITE}", flush=True)
    subprocess.run(
        ["debootstrap", "--variant=minbase", SUITE, str(new), site],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    sources = f"Types: deb-src\nURIs: {site}\nSuites: {SUITE}\nComponents: main\n"
    (new / "etc/apt/sources.list.d/source.sources").write_text(sources)
    shutil.copy("/etc/resolv.conf", new / "etc/resolv.conf")
    new.rename(machine.root)


def build(machine: Machine, name: str) -> str:
    """Build a wheel; the unpatched one once.

    Args:
        machine (Machine): where.
        name (str): one of :data:`BUILDS`.

    Returns:
        str: how long it took and what was compiled; empty if nothing was done.
    """
    folder, command = BUILDS[name]
    wheels = machine.work / "wheels" / name
    if name == "unpatched":
        if list(wheels.glob("*.whl")):
            return ""
        place = machine.work / "copies" / name
        if not any(place.iterdir()):
            new = place.with_name("new")
            shutil.rmtree(new, ignore_errors=True)
            shutil.copytree(machine.root / "src" / "pytorch", new, symlinks=True)
            place.rmdir()
            new.rename(place)
    else:
        shutil.rmtree(wheels, ignore_errors=True)
    machine.read("ccache --zero-stats")
    start = time.monotonic()
    jobs = str(os.cpu_count() or 1)
    variables = {**SETTINGS, "CCACHE_BASEDIR": COPY, "MAX_JOBS": jobs}
    steps = machine.run(f"build {name}", command, folder, name=name, **variables)
    seconds = time.monotonic() - start
    counts = dict(
        re.findall(r"^(\w+)\t(\d+)$", machine.read("ccache --print-stats"), re.M)
    )
    hits = int(counts["direct_cache_hit"]) + int(counts["preprocessed_cache_hit"])
    return (
        f"Build, {name}: {seconds:.0f} s, {steps} steps of ninja, "
        f"{counts['cache_miss']} files compiled, {hits} taken from ccache"
    )


def install(machine: Machine, name: str) -> None:
    """Install a wheel into an environment of its own."""
    machine.run(
        f"install {name}",
        f"python3 -m venv --clear --system-site-packages /venv/{name}\n"
        f"/venv/{name}/bin/pip install --no-deps --no-index /wheels/{name}/*.whl\n"
        f"/venv/{name}/bin/python -c 'import torch; print(torch.__version__)'",
    )


def test(machine: Machine) -> int:
    """Run upstream's tests on both wheels, and ours on the patched one.

    Args:
        machine (Machine): where.

    Returns:
        int: 1 if one of upstream's passes unpatched alone, or one of ours fails,
        without a reason in ``test/known_failures``.
    """
    upstream = {}
    for name in BUILDS:
        files = run_tests(machine, name, "/src/pytorch/test", ["test_optim.py"])
        (upstream[name],) = files.values()
        print(f"   upstream's test_optim.py, {name}: {numbers(files)}")
    unpatched, patched = (upstream[name] for name in BUILDS)
    failed = {
        test: {"message": patched.get(test) or "it is skipped", "stock": None}
        for test, text in unpatched.items()
        if text == "" and patched.get(test, "it is not there") != ""
    }
    ours = run_tests(
        machine, "patched", "/optim-names", prove.test_files(["test/optim"])
    )
    print(f"   the tests of optimizers, patched: {numbers(ours)}")
    failed |= {
        test: {"message": text, "stock": None}
        for outcome in ours.values()
        for test, text in outcome.items()
        if text
    }
    reasons = prove.explained(RELEASE, [{"failed": failed}])
    for reason, tests in reasons.items():
        print(f"   {len(tests)} fail. {reason}")
    return int(any(reason.startswith(prove.UNKNOWN) for reason in reasons))


def run_tests(
    machine: Machine, name: str, folder: str, files: Sequence[str]
) -> dict[str, dict[str, str | None]]:
    """Run files of tests, each in a process of its own.

    Args:
        machine (Machine): where.
        name (str): whose environment; one of :data:`BUILDS`.
        folder (str): where they lie.
        files (sequence of str): paths from there.

    Returns:
        dict: for each file, what came of its tests, as ``test/releases.py`` has it.
    """
    title = f"tests of {Path(folder).parts[1]} {name}"
    reports = machine.work / "wheels" / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir()
    # Upstream's conftest.py needs more packages.
    alone = "--noconftest" if folder != "/optim-names" else ""
    machine.run(
        title,
        "\n".join(
            f"/venv/{name}/bin/python -m pytest -q -p no:cacheprovider {alone} "
            f"--junitxml=/wheels/reports/{number}.xml {file} || true"
            for number, file in enumerate(files)
        ),
        folder,
    )
    found: dict[str, dict[str, str | None]] = {}
    for number, file in enumerate(files):
        report = reports / f"{number}.xml"
        found[file] = {file: "The run broke off."}
        if report.exists():
            found[file] = dict(prove.outcomes(ET.parse(report).getroot(), file))
    return found


def numbers(files: Mapping[str, Mapping[str, str | None]]) -> str:
    """How many tests passed, failed and were skipped."""
    outcomes = [text for outcome in files.values() for text in outcome.values()]
    passed, skipped = outcomes.count(""), outcomes.count(None)
    failed = len(outcomes) - passed - skipped
    return f"{passed} passed, {failed} failed, {skipped} skipped"


if __name__ == "__main__":
    sys.exit(main())
