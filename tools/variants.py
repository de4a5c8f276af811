"""What ``patches/`` holds, so that each release has its own series.

A patch is known by its subject, as file names have it. Patches without what depends
on the rest of the files that they touch are compared: a release whose patch differs
in no more than line numbers takes the one of its newer neighbor.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools import files, series
from tools.errors import ToolError
from tools.releases import Release, order


#: For one release, the slug of each of its patches to its content.
Slugs = Mapping[str, bytes]

_NUMBERS = re.compile(
    rb"^(?:index [0-9a-f]+\.\.[0-9a-f]+|@@ -[\d,]+ \+[\d,]+ @@.*)", re.MULTILINE
)


def read(root: Path, releases: Sequence[Release]) -> dict[str, dict[str, bytes]]:
    """The series of each release.

    Args:
        root (Path): the folder of the patches.
        releases (Sequence[Release]): the releases.

    Returns:
        dict[str, dict[str, bytes]]: version to the slugs of its patches, in order,
        to their contents.

    Raises:
        ToolError: if the order file or a patch is missing.
    """
    return {
        release.version: {
            series.slug(patch.name): patch.path.read_bytes()
            for patch in series.patches(release.version, root)
        }
        for release in releases
    }


def edited(
    every: Mapping[str, Slugs], version: str, mine: Slugs
) -> dict[str, dict[str, bytes]]:
    """The series of all releases, after that of one was edited.

    What was changed, added or taken out there is in every release that had the
    same patch; one that has its own variant keeps it, and gets the new message.

    Args:
        every (Mapping[str, Slugs]): the series as they were.
        version (str): the release.
        mine (Slugs): its series as it is now.

    Returns:
        dict[str, dict[str, bytes]]: the series as they are now.
    """
    old = every[version]
    gone = {_body(old[slug]): slug for slug in old if slug not in mine}
    # A new subject makes a new slug.
    was = {slug: gone.get(_body(mine[slug]), slug) for slug in mine}
    now = {before: slug for slug, before in was.items()}
    result: dict[str, dict[str, bytes]] = {version: dict(mine)}
    for other, theirs in every.items():
        if other == version:
            continue
        kept: dict[str, bytes] = {}
        for slug, content in theirs.items():
            if slug not in old:
                kept[slug] = content  # which the edited release does not have
            elif slug in now:
                kept[now[slug]] = _brought(content, old[slug], mine[now[slug]])
        kept |= {s: mine[s] for s in mine if was[s] not in old and s not in kept}
        result[other] = kept
    return result


def apart(
    every: Mapping[str, Slugs], version: str, mine: Slugs
) -> dict[str, list[str]]:
    """The releases that do not get what was edited in another one.

    Args:
        every (Mapping[str, Slugs]): the series as they were.
        version (str): the edited release.
        mine (Slugs): its series as it is now.

    Returns:
        dict[str, list[str]]: the slug of each patch of which the hunks changed to
        the releases that have their own variant of it.
    """
    old = every[version]
    found: dict[str, list[str]] = {}
    for slug in mine.keys() & old.keys():
        before = _body(old[slug])
        if _body(mine[slug]) != before:
            others = [v for v in every if slug in every[v]]
            found[slug] = [v for v in others if _body(every[v][slug]) != before]
    return {slug: found[slug] for slug in mine if found.get(slug)}


def _brought(theirs: bytes, old: bytes, new: bytes) -> bytes:
    """A release's patch, after the one of another release was edited."""
    if _change(new) == _change(old):
        return theirs
    if _change(theirs) == _change(old):
        return new
    mark = b"\ndiff --git "
    return new[: new.find(mark)] + theirs[theirs.find(mark) :]


def contents(
    every: Mapping[str, Slugs], slugs: Sequence[str], root: Path
) -> dict[Path, bytes | None]:
    """The files that give each release its series.

    Args:
        every (Mapping[str, Slugs]): version to its series.
        slugs (Sequence[str]): the slugs of all patches, in order.
        root (Path): the folder of the patches.

    Returns:
        dict[Path, bytes or None]: the patches and the order file; None for a file
        to remove. A variant that is there and differs in numbers alone is as it is.

    Raises:
        ToolError: if a release lacks a patch that an older one has.
    """
    newest, *older = sorted(every, key=order, reverse=True)
    folders = [root, *series.variant_folders(root)]
    result: dict[Path, bytes | None] = dict.fromkeys(
        path for folder in folders for path in folder.glob("*.patch")
    )
    file = root / series.ORDER_FILE
    lines = _header(files.text(file) if file.exists() else "")
    titles = _titles(slugs, series.section_titles(root) if file.exists() else {})
    section = ""
    for number, (slug, title) in enumerate(zip(slugs, titles), 1):
        name = f"{number:04}-{slug}"
        if title and title != section:
            lines += ["", f"{series.SECTION}{title}"]
            section = title
        having = [version for version in (newest, *older) if slug in every[version]]
        if having != [newest, *older][: len(having)]:
            raise ToolError(
                f"{name} is in the series for {having[-1]}, but not in one for a newer "
                "release. Give it a place there, or take it out of all."
            )
        all_have = len(having) == len(every)
        lines.append(name if all_have else f"{name}  # since {having[-1]}")
        content = every[newest][slug]
        result[root / name] = content
        for version in having[1:]:
            own = every[version][slug]
            if _change(own) != _change(content):
                path = root / version / name
                there = files.content(path)
                same = there is not None and _change(there) == _change(own)
                result[path] = there if same else own
            content = own
    result[file] = "".join(f"{line}\n" for line in lines).encode()
    return result


def merged(before: Sequence[str], mine: Sequence[str], alive: set[str]) -> list[str]:
    """The order of all patches, from that of one release.

    Args:
        before (Sequence[str]): the slugs in the order of the file.
        mine (Sequence[str]): those of the release, in their order.
        alive (set[str]): those that any release has.

    Returns:
        list[str]: all; one that the release lacks follows the one that it followed.
    """
    result = list(mine)
    place = 0
    for slug in before:
        if slug in result:
            place = result.index(slug) + 1
        elif slug in alive:
            result.insert(place, slug)
            place += 1
    return result


def _header(text: str) -> list[str]:
    """The comments that the order file begins with."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        if line.startswith(series.SECTION):
            # Without the blank lines above the title.
            return "\n".join(lines[:number]).rstrip().splitlines()
        if line.partition("#")[0].strip():
            return lines[:number]
    return lines


def _titles(slugs: Sequence[str], before: Mapping[str, str]) -> list[str]:
    """The title of the section of each patch.

    A new patch is in the section of the patch above it, unless it stands where
    another one went: that has a new subject.
    """
    old = {series.slug(name): title for name, title in before.items()}
    order = list(old)
    place = -1
    titles = []
    for slug in slugs:
        if slug in old:
            place = order.index(slug)
        elif place + 1 < len(order) and order[place + 1] not in slugs:
            place += 1
        titles.append(old[order[place]] if place >= 0 else "")
    return titles


def _change(patch: bytes) -> bytes:
    """A patch without what depends on the rest of the files it touches."""
    return _NUMBERS.sub(b"", patch)


def _body(patch: bytes) -> bytes:
    """What a patch changes, without its message."""
    return _change(patch[patch.find(b"\ndiff --git ") :])
