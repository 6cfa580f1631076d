"""Reads the names of classes that a dataset in YOLO's form states: `data.yaml`, `classes.txt` or `obj.names`."""

from __future__ import annotations

import re
from collections.abc import Container, Sequence

from choline_data.adapters.base import SourceFile
from choline_data.adapters.beside.image_notes import Classes, classes_of
from choline_data.adapters.reading import io, members
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.media import suffix_of
from choline_data.adapters.reading.names import parts
from choline_data.errors import ChoiceNeededError, CholineDataError
from choline_data.places.yaml_safe import safe_load

MAX_BYTES = 4 << 20


def is_class_file(file: SourceFile) -> bool:
    """Whether a file states the names of classes."""
    last = parts(file.name)[-1].lower()
    if suffix_of(file.name) in ("yaml", "yml"):
        try:
            return b"names:" in io.head(file.path)
        except CholineDataError:
            return False
    return last in ("classes.txt", "labels.txt") or suffix_of(file.name) == "names"


def classes_in(files: Sequence[SourceFile]) -> dict[str, Classes]:
    """Returns the classes that these files state, by the folder of the file, with a slash at its end.

    Raises ChoiceNeededError if two files of a folder state different names.
    """
    found: dict[str, Classes] = {}
    for file, data in members.contents([f for f in files if is_class_file(f)], MAX_BYTES):
        text = decoded(data or b"", file.name)[0]
        if suffix_of(file.name) in ("yaml", "yml"):
            classes = classes_of(safe_load(text, file.name))
        else:
            classes = Classes(tuple(line.strip() for line in text.splitlines() if line.strip()))
        if not classes.names:
            continue
        folder = "".join(f"{part}/" for part in parts(file.name)[:-1])
        if found.setdefault(folder, classes).names != classes.names:
            raise ChoiceNeededError(
                f"{file.name} and another file of its folder state different names of classes.",
                remedy=f"Choose: --exclude {parts(file.name)[-1]!r} | --exclude the other file",
            )
    return found


def names_classes(file: SourceFile, folders: Container[str]) -> bool:
    """Returns whether most lines of a text contain the name of one of these folders as a word, in lower case: `1
    Archery`.
    """
    if suffix_of(file.name) not in ("txt", "csv", "tsv", "names", ""):
        return False
    try:
        lines = io.head(file.path).decode("utf-8", "replace").splitlines()
    except CholineDataError:
        return False
    words = [re.split(r"[\s,;|]+", line.strip().lower()) for line in lines[:1000] if line.strip()]
    return bool(words) and sum(any(word in folders for word in row) for row in words) * 2 > len(words)
