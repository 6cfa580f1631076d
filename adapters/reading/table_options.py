"""The options `--header` and `--delimiter`: their values for a file, and the question that they answer."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from glob import escape
from typing import Any

from choline_data.adapters.base import FormatClaim
from choline_data.errors import ChoiceNeededError, InvalidOptionError, one_line

_DELIMITERS = {"tab": "\t", "\\t": "\t", "blank": " ", "space": " ", "comma": ",", "semicolon": ";", "pipe": "|"}
_HEADER = re.compile(r"yes|no|none|([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?")


def value_for(option: str, name: str) -> str:
    """Returns the value that an option has for this file, or "".

    The option is a value, or PATTERN=VALUE for the files that match a pattern; several are separated by commas.
    """
    chosen = ""
    for one in re.split(r",(?=.)", option) if option else ():
        pattern, equals, value = one.rpartition("=")
        if not equals or fnmatchcase(name, pattern) or fnmatchcase(name.rsplit("/", 1)[-1], pattern):
            chosen = value
    return chosen


def header_of(option: str, name: str) -> str:
    """Returns the value of `--header` for this file, or "". Raises InvalidOptionError if it is not a valid value."""
    value = value_for(option, name)
    lines = _HEADER.fullmatch(value) if value else None
    if value and (lines is None or (lines[2] and int(lines[2]) < int(lines[1]))):
        raise InvalidOptionError(
            f"--header {value[:40]!r} is neither a line nor none.",
            remedy="--header 3: line 3 names the columns. --header 3-4: line 3 names them, and line 4 is not a row. "
            "--header none: no line names them.",
        )
    return value


def lines_of(header: str) -> tuple[int, int] | None:
    """Parses a value such as `3-4` of `--header`. Returns the first and the last line of the header; None if the value
    names no lines.
    """
    lines = _HEADER.fullmatch(header)
    return (int(lines[1]), int(lines[2] or lines[1])) if lines and lines[1] else None


def delimiter_of(option: str, name: str) -> str:
    """Returns the delimiter that the option states for this file, or ""."""
    value = "," if option == "," else value_for(option, name)
    delimiter = _DELIMITERS.get(value, value)
    if len(delimiter) > 1 or delimiter in ('"', "\n", "\r"):
        raise InvalidOptionError(
            f"--delimiter {value[:40]!r} is not one character.", remedy="For example --delimiter ';', or tab, or blank."
        )
    return delimiter


def no_such_header(name: str, header: str) -> InvalidOptionError:
    """Returns the error for a header that has not as many names as the rows have fields, or that the file does not have."""
    return InvalidOptionError(
        f"{name}: --header {header}: this line does not name all columns of the rows below it.",
        remedy="Name the line that does, or --header none.",
    )


def header_needed(name: str, doubt: str, choices: Sequence[str], *, lines: bool = True) -> ChoiceNeededError:
    """Returns the question about the header of a file, with the values of `--header` that answer it."""
    file = shlex.quote(escape(name).replace(",", "?"))
    answers = [f"--header {file}={choice} ({meaning(choice)})" for choice in choices]
    if lines and tuple(choices) == ("none",):
        answers.append(f"--delimiter {file}=CHARACTER (if the fields are parted otherwise)")
    return ChoiceNeededError(f"{name}: {one_line(doubt, 200)}.", remedy=f"Choose: {' | '.join(answers)}")


def meaning(choice: str) -> str:
    """Returns a short explanation of a value of `--header`."""
    if choice == "none":
        return "all lines from there on are rows"
    first, dash, last = choice.partition("-")
    if dash:
        return f"line {first} names the columns, and the rows begin after line {last}"
    return f"line {first} names the columns, and the rows begin after it"


def with_table_options(taken: list[FormatClaim], header: str, delimiter: str, location: str) -> list[FormatClaim]:
    """Returns the claims with `--header` and `--delimiter` given to the adapters that have them.

    Raises InvalidOptionError if none has.
    """
    for option, value in (("header", header), ("delimiter", delimiter)):
        if not value:
            continue
        changed = [replace(claim, adapter=_with(claim.adapter, option, value)) for claim in taken]
        if all(claim.adapter is before.adapter for claim, before in zip(changed, taken, strict=True)):
            raise InvalidOptionError(
                f"--{option} {shlex.quote(value)}: no file of {location} is read as a table with this option.",
                remedy="Leave the option out, or choose the format with --format csv.",
            )
        taken = changed
    return taken


def _with(adapter: Any, option: str, value: str) -> Any:
    """Returns the adapter with the option. Adapters that hold another one, such as those for archives, pass it on."""
    if hasattr(adapter, option) and type(adapter).__name__ in ("Delimited", "Excel", "JsonLines"):
        return replace(adapter, **{option: value})
    for inner in ("inner", "adapter"):
        held = getattr(adapter, inner, None)
        if held is not None and (changed := _with(held, option, value)) is not held:
            return replace(adapter, **{inner: changed})
    return adapter
