"""Checks the patterns of competition.toml: regular expressions, and templates of file names."""

from __future__ import annotations

import re

#: A field of ``file_name``: ``{id}``, ``{id[0]}``, ``{id[:2]}``, or another column of the CSV.
FIELD = re.compile(r"\{([^{}\[\]]+)(?:\[(?:(-?\d+)|(-?\d*):(-?\d*))\])?\}")


def checked_pattern(pattern: str, needed: str) -> str:
    """Returns the pattern if it compiles and has the named group ``needed``; raises ValueError otherwise.

    If the name of the group is missing, the message contains a corrected pattern.
    """
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"not a regular expression: {error}") from error
    unknown = set(groups) - {"label", "id", "group"}
    if unknown:
        raise ValueError(f"a group can be named label, id or group, not '{min(unknown)}'")
    if needed not in groups:
        raise ValueError(
            f"the pattern has no group named '{needed}'; write pattern = '{with_group_names(pattern, needed)}'"
        )
    return pattern


def with_group_names(pattern: str, needed: str) -> str:
    """Names the unnamed groups of a pattern: a group of digits is the id, the first other group is the label.

    If no group can be named ``needed``, returns an example pattern instead.

    >>> with_group_names(r"^(.*?)_(\\d+)\\.jpg$", "label")
    '^(?P<label>.*?)_(?P<id>\\\\d+)\\\\.jpg$'
    """
    opening = re.compile(r"(?<!\\)\((?!\?)")  # "(" that is neither escaped nor the start of "(?..."
    starts = [match.end() for match in opening.finditer(pattern)]
    free = [name for name in (needed, "label", "id") if f"(?P<{name}>" not in pattern]
    named: dict[int, str] = {}
    for start in starts:
        is_number = re.match(r"(\\d|\[0-9\])", pattern[start:]) is not None
        wanted = "id" if is_number or (needed == "id" and len(starts) == 1) else "label"
        if wanted in free and wanted not in named.values():
            named[start] = wanted
    if needed not in named.values():
        return r"^(?P<label>.+?)[._](?P<id>\d+)\.jpg$" if needed == "label" else r"^(?P<id>.+)\.jpg$"
    for start in sorted(named, reverse=True):
        pattern = f"{pattern[:start]}?P<{named[start]}>{pattern[start:]}"
    return pattern


def checked_file_name(template: str) -> str:
    """Returns the template of a file name if it has a field and no other braces; raises ValueError otherwise."""
    if not FIELD.search(template) or set("{}") & set(FIELD.sub("", template)):
        raise ValueError(
            f"file_name = '{template}' is not such as '{{id}}_left.png' or '{{id[0]}}/{{id}}.jpg'; a field is {{id}} "
            "or {the name of a column}, and may take characters of it, such as {id[0]} or {id[:2]}"
        )
    return template
