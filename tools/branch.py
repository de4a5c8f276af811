"""The series as a branch in a checkout of PyTorch, for pull requests.

The commits are first made on the release that the series is for, and then picked onto
the revision at hand: so git has each file as it was before and after each commit, and
can merge.
"""

import email.utils
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from tools import export, files, git, layout, port, series, stack, tree, upstream_tests
from tools.errors import ToolError
from tools.series import Patch, Section


NAME = tree.BRANCH

#: What the line of a patch begins with that is not in the branch.
LEFT_OUT = "left out "

#: While picks go on: the revision below them, and what is picked.
_ONTO = "refs/optim-names/onto"
_BASE = "refs/optim-names/base"
_MADE = "refs/optim-names/made"

#: What git calls the commit at which picking has stopped.
_PICKED = "CHERRY_PICK_HEAD"

#: Patches, and the files that each makes.
_Made: TypeAlias = list[tuple[Patch, dict[str, bytes | None]]]

_PICK = ("-c", "merge.conflictStyle=diff3", "cherry-pick")


def branch(
    checkout: Path,
    sections: Sequence[Section],
    sources: Mapping[str, bytes],
    *,
    onto: str = "HEAD",
    author: str = f"{tree.AUTHOR} <{tree.EMAIL}>",
    fine: bool = False,
    root: Path = layout.ROOT,
) -> list[str]:
    """Make a branch of the series.

    Args:
        checkout (Path): a git checkout of PyTorch.
        sections (Sequence[Section]): the series for a release.
        sources (Mapping[str, bytes]): the files of that release.
        onto (str): the revision to lay it over.
        author (str): who the commits are by, as ``NAME <MAIL>``.
        fine (bool): whether each patch is a commit, instead of each section.
        root (Path): the folder with overlay and tests.

    Returns:
        list[str]: a line for each commit: hash, lines, title; then one for each
        source-only patch that was left out, for its files are others there.

    Raises:
        ToolError: if the checkout is none, has changes or such a branch (nothing is
            changed then), or a person is needed: git is then in the middle of
            ``git cherry-pick``.
    """
    if not re.fullmatch(r"[^<>\n]+ <[^<> \n]+>", author):
        raise ToolError(f"'{author}' is no author; write 'NAME <MAIL>'.")
    tip = _checked(checkout, onto)
    parts = upstream_tests.by_section([section.title for section in sections], root)
    tests = {section.patches[-1]: part for section, part in zip(sections, parts)}
    if fine:
        patches = [patch for section in sections for patch in section.patches]
        sections = [Section(series.message(patch)[0], [patch]) for patch in patches]
    others = _source_only(checkout, tip, root)
    stream = b"".join(_commits(sections, sources, tests, others, author, root))
    git.output(checkout, "fast-import", "--quiet", "--force", stdin=stream)
    _refuse_to_replace(checkout, tip)
    git.output(checkout, "switch", "--quiet", "--create", NAME, tip)
    git.output(checkout, "update-ref", _ONTO, tip)
    done = git.run(checkout, *_PICK, f"{_BASE}..{_MADE}", extra=_committer(author))
    if done.returncode and not _has(checkout, _PICKED):
        raise ToolError(f"git cherry-pick failed: {git.text(done.stderr).strip()}")
    return go_on(checkout, root=root)


def _refuse_to_replace(checkout: Path, tip: str) -> None:
    """Raise if a file that is in no commit lies where a new one goes."""
    new = git.output(
        checkout, "diff", "--name-only", "-z", "--diff-filter=A", _BASE, _MADE
    )
    for path in git.split(new):
        if (checkout / path).exists() and not _has(checkout, f"{tip}:{path}"):
            raise ToolError(
                f"{checkout / path} is in no commit, and the branch has a file there. "
                "Move it away."
            )


def go_on(checkout: Path, *, root: Path = layout.ROOT) -> list[str]:
    """Take the picks as far as they go without a person.

    What upstream has already is left out.

    Args:
        checkout (Path): the checkout.
        root (Path): the folder with ``patches/``.

    Returns:
        list[str]: as :func:`branch`.

    Raises:
        ToolError: if no branch was begun, or a person is needed.
    """
    if not _has(checkout, _ONTO):
        raise ToolError(f"No branch was begun in {checkout}; leave out '--continue'.")
    author = git.output(checkout, "log", "-1", "--format=%an <%ae>", _MADE).strip()
    extra = {"GIT_EDITOR": ":", **_committer(author)}
    while _picks(checkout):
        port.refuse_conflicts(
            checkout,
            _PICKED,
            "'python -m tools branch CHECKOUT --continue'; or give up with 'git "
            "cherry-pick --abort'",
        )
        before = _position(checkout)
        changed = ("diff", "HEAD", "--name-only", "--ignore-submodules")
        nothing = _has(checkout, _PICKED) and not git.output(checkout, *changed)
        step = "--skip" if nothing else "--continue"
        done = git.run(checkout, *_PICK, step, extra=extra)
        stuck = _position(checkout) == before or not _has(checkout, _PICKED)
        if done.returncode and stuck:
            raise ToolError(
                f"git cherry-pick stopped in {checkout}: {git.text(done.stderr).strip()}"
            )
    log = git.output(checkout, "log", "--format=%s", f"{_BASE}..{_MADE}")
    made = {*log.splitlines()}
    lines = _lines(checkout)
    lines += [
        f"{LEFT_OUT}{patch.path}: {', '.join(series.touched_files([patch]))} is not "
        "there, or is another file than it is for"
        for patch in series.source_only(root / layout.PATCHES.name)
        if series.message(patch)[0] not in made
    ]
    for ref in (_BASE, _MADE, _ONTO):
        git.output(checkout, "update-ref", "-d", ref)
    return lines


def _has(checkout: Path, name: str) -> bool:
    return not git.run(checkout, "rev-parse", "--verify", "-q", name).returncode


def _picks(checkout: Path) -> bool:
    """Whether git is in the middle of picking commits."""
    return _has(checkout, _PICKED) or _todo(checkout) is not None


def _todo(checkout: Path) -> bytes | None:
    path = git.output(checkout, "rev-parse", "--git-path", "sequencer/todo").strip()
    return files.content(checkout / path)


def _position(checkout: Path) -> tuple[str, bytes | None]:
    return git.output(checkout, "rev-parse", "HEAD"), _todo(checkout)


def _checked(checkout: Path, onto: str) -> str:
    """The hash of the revision, if a branch can be made."""
    if git.run(checkout, "rev-parse", "--git-dir").returncode:
        raise ToolError(f"{checkout} is not the top of a git checkout.")
    if not _has(checkout, f"{onto}^{{commit}}"):
        raise ToolError(f"{checkout} has no revision '{onto}'.")
    tip = git.output(checkout, "rev-parse", f"{onto}^{{commit}}").strip()
    if not _has(checkout, f"{tip}:torch/optim/optimizer.py"):
        raise ToolError(
            f"'{onto}' in {checkout} is not PyTorch: it has no torch/optim."
        )
    if _has(checkout, f"refs/heads/{NAME}"):
        raise ToolError(
            f"{checkout} has a branch {NAME} already. Rename it with 'git branch -m', or "
            "remove it with 'git branch -D'."
        )
    status = ("status", "--porcelain", "-z", "--untracked-files=no")
    changed = git.split(git.output(checkout, *status, "--ignore-submodules=all"))
    if changed:
        raise ToolError(
            f"{checkout} has uncommitted changes ({changed[0][3:]}). Commit them, or put "
            "them away with 'git stash'."
        )
    return tip


def _commits(
    sections: Sequence[Section],
    sources: Mapping[str, bytes],
    tests: Mapping[Patch, Mapping[str, bytes]],
    others: tuple[Mapping[str, bytes], _Made],
    author: str,
    root: Path,
) -> Iterator[bytes]:
    """The series on its release, in the language of ``git fast-import``."""
    overlay = {
        path: file.read_bytes()
        for path, file in series.overlay_files(root / layout.OVERLAY.name).items()
    }
    patches = [patch for section in sections for patch in section.patches]
    touched = series.touched_files(patches)
    base = {path: sources[path] for path in touched if path in sources}
    yield from tree.commit_stream(_MADE, "PyTorch\n", {**base, **others[0]})
    yield f"reset {_BASE}\nfrom {_MADE}\n\n".encode()
    before: dict[str, bytes | None] = dict(base)
    for step in stack.steps(sections, sources, overlay):
        last = step.section.patches[-1]
        after = {**step.patched, **step.overlay, **tests.get(last, {})}
        new = {p: content for p, content in after.items() if before.get(p) != content}
        before |= new
        message = _message(step.section)
        yield from tree.commit_stream(_MADE, message, new, author, _date(last))
    for patch, after in others[1]:
        message = "\n\n".join(series.message(patch)) + "\n"
        yield from tree.commit_stream(_MADE, message, after, author, _date(patch))


def _source_only(
    checkout: Path, tip: str, root: Path
) -> tuple[dict[str, bytes], _Made]:
    """The files that source-only patches are for, and what each makes of them.

    Without those that do not apply to the revision.
    """
    base: dict[str, bytes] = {}
    made: _Made = []
    with files.scratch() as folder:
        for patch in series.source_only(root / layout.PATCHES.name):
            paths = series.touched_files([patch])
            if not all(_has(checkout, f"{tip}:{path}") for path in paths):
                continue
            new = [path for path in paths if path not in base]
            contents = tree.blob_contents(checkout, [f"{tip}:{path}" for path in new])
            for path, content in zip(new, contents):
                files.put(folder / path, content)
            if not series.rejected(patch, folder):
                base |= zip(new, contents)
                made.append((patch, {p: files.content(folder / p) for p in paths}))
    return base, made


def keep(checkout: Path, *, root: Path = layout.ROOT) -> list[Path]:
    """Write the commits above those of the series as the source-only patches.

    Args:
        checkout (Path): a checkout with the branch that :func:`branch` made.
        root (Path): the folder with ``patches/``.

    Returns:
        list[Path]: the files that were written or removed.

    Raises:
        ToolError: if there is no such branch, or a commit touches ``torch/``.
    """
    last = series.sections(root=root / layout.PATCHES.name)[-1]
    ends = {last.title, series.message(last.patches[-1])[0]}
    log = ("log", "--format=%H %s", NAME, "--")
    lines = git.output(checkout, *log).splitlines() if _has(checkout, NAME) else []
    found = [line[:40] for line in lines if line[41:] in ends]
    if not found:
        raise ToolError(
            f"{checkout} has no branch {NAME} with a commit '{last.title}', above which "
            "source-only patches lie."
        )
    above = f"{found[0]}..{NAME}"
    if touched := git.output(checkout, "log", "--format=%s", above, "--", "torch"):
        raise ToolError(
            f"Commit '{touched.splitlines()[0]}' changes torch/. Make that change in a "
            "tree of 'python -m tools materialize'."
        )
    folder = root / layout.PATCHES.name / series.SOURCE_ONLY
    contents: dict[Path, bytes | None] = dict.fromkeys(folder.glob("*.patch"))
    for name, mail in export.formatted(checkout, above).items():
        # Whoever made the branch, and the commit
        by = f"From: {tree.AUTHOR} <{tree.EMAIL}>".encode()
        contents[folder / name] = re.sub(rb"(?m)^From: .*", by, mail, count=1)
    return files.replace(contents)


def _message(section: Section) -> str:
    messages = [series.message(patch) for patch in section.patches]
    if len(messages) == 1:
        return f"{section.title}\n\n{messages[0][1]}\n"
    texts = [f"* {subject}\n\n{text}\n" for subject, text in messages]
    return "\n".join([f"{section.title}\n", *texts])


def _date(patch: Patch) -> str:
    """The date of a patch, as git keeps it."""
    mail = git.text(patch.path.read_bytes())
    found = re.search(r"^Date: (.+)$", mail, re.M)
    if found is None:
        raise ToolError(f"{patch.path} has no Date header.")
    date = email.utils.parsedate_to_datetime(found[1])
    return f"{int(date.timestamp())} {date:%z}"


def _committer(author: str) -> dict[str, str]:
    name, _, mail = author.rpartition(" ")
    return {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": mail.strip("<>")}


def _lines(checkout: Path) -> list[str]:
    """A line for each commit."""
    log = ("log", "--reverse", "--format=%x00%h %s", "--numstat", f"{_ONTO}..HEAD")
    lines = []
    for entry in git.split(git.output(checkout, *log)):
        title, *counts = entry.strip().splitlines()
        numbers = [line.split("\t")[:2] for line in counts if line]
        added, removed = (sum(int(n[i]) for n in numbers) for i in (0, 1))
        commit, _, subject = title.partition(" ")
        lines.append(f"{commit}  +{added} -{removed}  {subject}")
    return lines
