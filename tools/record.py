"""RECORD, in which a wheel, or an installed package, lists its files."""

import base64
import csv
import hashlib
from collections.abc import Mapping


def rows(content: bytes) -> dict[str, str]:
    """What a RECORD says.

    Args:
        content (bytes): the file.

    Returns:
        dict[str, str]: path to what follows it in its line:
        ``"sha256=...,size"``, or ``","`` for a file of which nothing is said.

    Raises:
        ValueError: if a line cannot be read, or a file is listed twice.
    """
    found: dict[str, str] = {}
    lines = content.decode("utf-8").splitlines()
    for line in lines:
        # Only a path can hold a quote, and then is quoted itself.
        try:
            name, digest, size = (
                next(csv.reader([line])) if '"' in line else line.split(",")
            )
        except csv.Error as error:
            raise ValueError(str(error)) from error
        found[name] = f"{digest},{size}"
    if len(found) != len(lines):
        raise ValueError("it lists a file twice")
    return found


def row(content: bytes) -> str:
    """What the line of a file says about its content.

    Args:
        content (bytes): the content of the file.

    Returns:
        str: ``"sha256=...,size"``.
    """
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return f"sha256={digest.decode().rstrip('=')},{len(content)}"


def text(rows: Mapping[str, str]) -> bytes:
    """A RECORD.

    Args:
        rows (Mapping[str, str]): as :func:`rows` returns them.

    Returns:
        bytes: the file.
    """
    lines = (f"{_quoted(name)},{row}\n" for name, row in rows.items())
    return "".join(lines).encode()


def _quoted(name: str) -> str:
    """A path as a file of comma-separated values spells it."""
    if "," in name or '"' in name:
        return '"' + name.replace('"', '""') + '"'
    return name
