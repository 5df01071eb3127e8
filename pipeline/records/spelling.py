"""Compares names that people may write in several ways: blanks, upper and lower case, and the forms of Unicode.

The letter "é" is one character, or an "e" and an accent (Unicode Standard Annex 15); macOS and Linux differ in this.
Standard library only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def plain(text: str) -> str:
    """The text without blanks at its ends, in the composed form of Unicode (NFC)."""
    return unicodedata.normalize("NFC", text.strip())


def alike(text: str) -> str:
    """The same for all texts that look the same or differ only in case, blanks, or the form of a number.

    >>> alike("Cat") == alike(" cat") and alike("1") == alike("1.0")
    True
    """
    visible = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    words = " ".join(visible.casefold().split())
    try:
        return format(float(words), "g") if words.isascii() and "_" not in words else words
    except ValueError:
        return words


def look_alikes(names: Iterable[str]) -> list[list[str]]:
    """The names that are not the same but alike, in groups."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(alike(name), []).append(name)
    return [group for group in groups.values() if len(group) > 1]
