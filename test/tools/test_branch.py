"""Tests of tools.branch: the series in a checkout of PyTorch."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_torch import SOURCES, Workplace, write, write_wheel

from tools import branch, layout, series, tree
from tools.errors import ToolError


PATH = "torch/optim/optimizer.py"

SOMEBODY = "Some Body <some@body.invalid>"

TESTS = {
    "test/optim/_guard.py": "",
    "test/optim/test_a.py": (
        "import sys\n\nfrom _guard import require_patched_torch\n\n\n"
        "require_patched_torch()\n\nimport torch\n"
    ),
    "test/tools/test_b.py": "",
}


class Checkout:
    """A repository with the made-up PyTorch, and a file that no release has."""

    def __init__(self, root: Path, **changed: bytes) -> None:
        self.root = root
        write(root, {**SOURCES, "CMakeLists.txt": "cmake\n", **changed})
        self.git("init", "-q", "-b", "main", ".")
        for name, value in (("user.name", "User"), ("user.email", "user@x.invalid")):
            self.git("config", name, value)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "PyTorch")

    def git(self, *arguments: str) -> str:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
        own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            env={**inherited, **own, "GIT_EDITOR": ":"},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout

    def titles(self) -> list[str]:
        log = self.git("log", "--reverse", "--format=%s", "main..optim-names")
        return log.splitlines()

    def files(self, commit: str) -> list[str]:
        return self.git("show", "--format=", "--name-only", commit).splitlines()

    def read(self, path: str = PATH) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "pytorch")


def moved(tmp_path: Path, old: bytes, new: bytes) -> Checkout:
    """A checkout in which upstream has changed a line."""
    assert old in SOURCES[PATH]
    return Checkout(tmp_path / "pytorch", **{PATH: SOURCES[PATH].replace(old, new)})


def lay(workplace: Workplace, checkout: Checkout, **options: object) -> list[str]:
    return branch.branch(
        checkout.root,
        series.sections(root=workplace.patches),
        SOURCES,
        root=workplace.root,
        **options,  # type: ignore[arg-type]
    )


def join_sections(workplace: Workplace) -> None:
    order = workplace.patches / "series"
    order.write_text(order.read_text().replace("0001-", "# == Name all\n0001-"))


def test_commits(workplace: Workplace, checkout: Checkout) -> None:
    write(workplace.root, TESTS)
    lines = lay(workplace, checkout)
    titles = ["Name the first", "Name the second"]
    assert checkout.titles() == titles
    assert [re.sub(r"^\w+  ", "", line) for line in lines] == [
        f"+2 -2  {titles[0]}",
        f"+6 -2  {titles[1]}",
    ]
    assert checkout.git("branch", "--show-current") == "optim-names\n"
    assert checkout.git("status", "--porcelain") == ""
    for path in SOURCES:
        assert checkout.read(path) == (workplace.tree / path).read_text()
    assert checkout.read("CMakeLists.txt") == "cmake\n"
    # The overlay comes when it is used, or else at the end.
    module = "torch/optim/_names/__init__.py"
    assert module not in checkout.files("HEAD~1")
    assert module in checkout.files("HEAD")
    assert checkout.git("for-each-ref", "refs/optim-names") == ""


@pytest.mark.parametrize("fine", [False, True])
def test_tests(workplace: Workplace, checkout: Checkout, fine: bool) -> None:
    order = workplace.patches / "series"
    order.write_text(order.read_text().replace("0002-", "# == Name all\n0002-"))
    table = "[Name the first]\ntest/optim/test_b.py\n"
    test = "class TestOne:\n    def test_a(self): ...\n"
    write(workplace.root, {**TESTS, "test/sections.txt": table})
    write(workplace.root, {"test/optim/test_b.py": test})
    lay(workplace, checkout, fine=fine)
    tests = [[f for f in checkout.files(c) if "test" in f] for c in ("HEAD~1", "HEAD")]
    assert tests == [["test/optim/test_b.py"], ["test/optim/test_a.py"]]
    assert not (checkout.root / "test/optim/_guard.py").exists()
    assert checkout.read("test/optim/test_a.py") == "import sys\n\nimport torch\n"


def test_messages(workplace: Workplace, checkout: Checkout) -> None:
    lay(workplace, checkout)
    message = checkout.git("log", "-1", "--format=%B")
    assert message == "Name the second\n\nIt had none either.\n\n"


def test_section_of_several_patches(workplace: Workplace, checkout: Checkout) -> None:
    join_sections(workplace)
    lay(workplace, checkout)
    assert checkout.titles() == ["Name all"]
    assert checkout.git("log", "-1", "--format=%b") == (
        "* Name the first\n\nIt had no name.\n\n"
        "* Name the second\n\nIt had none either.\n\n"
    )


def test_fine(workplace: Workplace, checkout: Checkout) -> None:
    join_sections(workplace)
    lay(workplace, checkout, fine=True)
    assert checkout.titles() == ["Name the first", "Name the second"]


def test_author(workplace: Workplace, checkout: Checkout) -> None:
    lay(workplace, checkout, author=SOMEBODY)
    log = checkout.git("log", "--format=%an <%ae>%n%cn <%ce>", "main..HEAD")
    assert {*log.splitlines()} == {SOMEBODY}


def test_revision(workplace: Workplace, checkout: Checkout) -> None:
    write(checkout.root, {"later.txt": "later\n"})
    checkout.git("add", "-A")
    checkout.git("commit", "-q", "-m", "Later")
    lay(workplace, checkout, onto="HEAD~1")
    assert checkout.git("rev-parse", "HEAD~2") == checkout.git("rev-parse", "main~1")
    assert not (checkout.root / "later.txt").exists()


def test_upstream_has_moved_elsewhere(workplace: Workplace, tmp_path: Path) -> None:
    checkout = moved(tmp_path, b"line_30 = 30\n", b"")
    lay(workplace, checkout)
    assert "fifty" in checkout.read()
    assert "line_30" not in checkout.read()


def test_conflict(workplace: Workplace, tmp_path: Path) -> None:
    write(workplace.root, TESTS)
    checkout = moved(tmp_path, b"line_49 = 49", b"line_49 = 0")
    with pytest.raises(ToolError, match=f"'Name the second' conflicts in {PATH}"):
        lay(workplace, checkout, author=SOMEBODY)
    assert "cherry-pick" in checkout.git("status")
    assert "||||||| " in checkout.read()  # what the patch was made for
    with pytest.raises(ToolError, match="branch CHECKOUT --continue"):
        branch.go_on(checkout.root)
    checkout.git("add", PATH)
    with pytest.raises(ToolError, match="leftover conflict marker"):
        branch.go_on(checkout.root)
    both = "line_49 = 0\nline_50 = 'fifty'\n"
    text = re.sub(r"(?s)<{7}.*>{7}[^\n]*\n", both, checkout.read())
    write(checkout.root, {PATH: text})
    checkout.git("add", PATH)
    assert len(branch.go_on(checkout.root, root=workplace.root)) == 2
    assert checkout.titles()[1:] == ["Name the second"]
    log = checkout.git("log", "--format=%an <%ae>%n%cn <%ce>", "main..HEAD")
    assert {*log.splitlines()} == {SOMEBODY}
    assert both in checkout.read()
    assert checkout.git("status", "--porcelain") == ""
    with pytest.raises(ToolError, match="No branch was begun"):
        branch.go_on(checkout.root)


def test_giving_up(workplace: Workplace, tmp_path: Path) -> None:
    checkout = moved(tmp_path, b"line_49 = 49", b"line_49 = 0")
    before = checkout.git("rev-parse", "main^{tree}")
    with pytest.raises(ToolError, match="conflicts"):
        lay(workplace, checkout)
    checkout.git("cherry-pick", "--abort")
    assert checkout.git("rev-parse", "HEAD^{tree}") == before
    assert checkout.git("status", "--porcelain") == ""
    checkout.git("switch", "-q", "main")
    checkout.git("branch", "-D", "optim-names")
    with pytest.raises(ToolError, match="conflicts"):
        lay(workplace, checkout)


def test_what_upstream_has_is_left_out(workplace: Workplace, tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "pytorch")
    lay(workplace, checkout)
    checkout.git("switch", "-q", "main")
    checkout.git("cherry-pick", "optim-names~1")
    checkout.git("branch", "-D", "optim-names")
    assert len(lay(workplace, checkout)) == 1
    assert checkout.titles() == ["Name the second"]


def test_file_in_the_way(workplace: Workplace, checkout: Checkout) -> None:
    module = "torch/optim/_names/__init__.py"
    write(checkout.root, {module: "mine = 1\n"})
    with pytest.raises(ToolError, match=f"{module} is in no commit.*Move it away"):
        lay(workplace, checkout)
    assert checkout.read(module) == "mine = 1\n"
    assert checkout.git("branch", "--list", "optim-names") == ""


def test_commit_by_hand(workplace: Workplace, tmp_path: Path) -> None:
    write(workplace.root, TESTS)
    checkout = moved(tmp_path, b"line_49 = 49", b"line_49 = 0")
    with pytest.raises(ToolError, match="conflicts"):
        lay(workplace, checkout)
    checkout.git("checkout", "-q", "--theirs", PATH)
    checkout.git("commit", "-q", "-a", "-m", "Name the second by hand")
    assert len(branch.go_on(checkout.root, root=workplace.root)) == 2
    assert checkout.titles() == ["Name the first", "Name the second by hand"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"onto": "nowhere"}, "has no revision 'nowhere'"),
        ({"onto": "other"}, "'other' in .* is not PyTorch"),
        ({"author": "Some Body"}, "'Some Body' is no author; write 'NAME <MAIL>'"),
    ],
)
def test_bad_options(
    workplace: Workplace, checkout: Checkout, options: dict[str, str], message: str
) -> None:
    checkout.git("switch", "-q", "--orphan", "other")
    checkout.git("commit", "-q", "--allow-empty", "-m", "Nothing")
    checkout.git("switch", "-q", "main")
    with pytest.raises(ToolError, match=message):
        lay(workplace, checkout, **options)
    assert checkout.git("branch", "--list", "optim-names") == ""


def test_changes_are_not_touched(workplace: Workplace, checkout: Checkout) -> None:
    write(checkout.root, {"torch/hub.py": "mine = 1\n"})
    with pytest.raises(ToolError, match=r"has uncommitted changes \(torch/hub\.py\)"):
        lay(workplace, checkout)
    assert checkout.read("torch/hub.py") == "mine = 1\n"


def test_branch_that_is_there(workplace: Workplace, checkout: Checkout) -> None:
    checkout.git("branch", "optim-names")
    with pytest.raises(ToolError, match="has a branch optim-names already"):
        lay(workplace, checkout)


@pytest.mark.parametrize("name", ["torch", "nowhere"])
def test_folder_that_is_no_checkout(
    workplace: Workplace, checkout: Checkout, name: str
) -> None:
    checkout.root /= name
    with pytest.raises(ToolError, match="is not the top of a git|does not exist"):
        lay(workplace, checkout)


def keep_a_commit(workplace: Workplace, checkout: Checkout) -> Path:
    """A source-only patch that changes CMakeLists.txt."""
    write(workplace.root, TESTS)
    lay(workplace, checkout)
    write(checkout.root, {"CMakeLists.txt": "# Named\ncmake\n"})
    checkout.git("commit", "-q", "-a", "-m", "Say so\n\nNothing did.")
    (kept,) = branch.keep(checkout.root, root=workplace.root)
    return kept


def test_source_only(workplace: Workplace, checkout: Checkout, tmp_path: Path) -> None:
    kept = keep_a_commit(workplace, checkout)
    assert kept == workplace.patches / "source-only" / "0001-Say-so.patch"
    assert f"From: {tree.AUTHOR} <{tree.EMAIL}>\n" in kept.read_text()
    assert branch.keep(checkout.root, root=workplace.root) == []
    assert "0001-Say-so.patch" not in [
        p.name for p in series.patches(root=kept.parents[1])
    ]
    other = Checkout(tmp_path / "other")
    assert len(lay(workplace, other, author=SOMEBODY)) == 3
    assert other.titles()[2:] == ["Say so"]
    assert other.read("CMakeLists.txt") == "# Named\ncmake\n"
    message = other.git("log", "-1", "--format=%an <%ae>%n%B")
    assert message == f"{SOMEBODY}\nSay so\n\nNothing did.\n\n"


@pytest.mark.parametrize("content", [b"make\n", None])
def test_source_only_that_does_not_apply(
    workplace: Workplace,
    checkout: Checkout,
    tmp_path: Path,
    content: bytes | None,
) -> None:
    kept = keep_a_commit(workplace, checkout)
    other = Checkout(tmp_path / "other")
    if content is None:
        other.git("rm", "-q", "CMakeLists.txt")
    else:
        write(other.root, {"CMakeLists.txt": content})
    other.git("commit", "-q", "-a", "-m", "Move on")
    lines = lay(workplace, other)
    assert lines[2:] == [
        f"left out {kept}: CMakeLists.txt is not there, or is another file than it is for"
    ]
    assert other.titles()[2:] == []


def test_source_only_that_goes(workplace: Workplace, checkout: Checkout) -> None:
    kept = keep_a_commit(workplace, checkout)
    checkout.git("reset", "-q", "--hard", "HEAD~1")
    assert branch.keep(checkout.root, root=workplace.root) == [kept]
    assert not kept.exists()


def test_what_cannot_be_kept(workplace: Workplace, checkout: Checkout) -> None:
    with pytest.raises(ToolError, match="has no branch optim-names"):
        branch.keep(checkout.root, root=workplace.root)
    kept = keep_a_commit(workplace, checkout)
    before = kept.read_bytes()
    write(checkout.root, {PATH: "line_1 = 1\n"})
    checkout.git("commit", "-q", "-a", "-m", "Wrong place")
    with pytest.raises(ToolError, match="'Wrong place' changes torch/"):
        branch.keep(checkout.root, root=workplace.root)
    assert kept.read_bytes() == before


def test_command(workplace: Workplace, checkout: Checkout) -> None:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(layout.ROOT / "tools", workplace.root / "tools", ignore=ignore)
    cache = workplace.root / "build" / "cache" / "any"
    cache.mkdir(parents=True)
    write_wheel(cache)

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        variables = {k: v for k, v in os.environ.items() if "OPTIM_NAMES" not in k}
        return subprocess.run(
            [sys.executable, "-m", "tools", "branch", str(checkout.root), *words],
            cwd=workplace.root,
            env=variables,
            capture_output=True,
            text=True,
        )

    done = run("--author", SOMEBODY)
    assert done.stdout.endswith(
        "2 commits on branch optim-names. Nothing was pushed.\n"
    )
    assert checkout.git("log", "-1", "--format=%an <%ae>") == f"{SOMEBODY}\n"
    done = run("--continue")
    assert done.returncode == 1
    assert "No branch was begun" in done.stderr
