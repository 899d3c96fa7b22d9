"""Text out of a file, or a file's name, made fit to be shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with what a terminal might obey, or a page could not show, written as escapes: control characters, marks
    that turn the direction of writing, halves of characters."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
