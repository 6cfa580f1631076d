"""What the names of files say: splits, sidecars, natural order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from choline_data.adapters.base import SourceFile

_SPLITS = {
    "train": "train", "training": "train", "trn": "train",
    "test": "test", "testing": "test", "tst": "test", "eval": "test", "evaluation": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
_ABOUT = re.compile(
    r"^(readme|licen[cs]es?|copying|notice|authors|contributors|changelog|changes|citation|dataset_card|history|news"
    r"|sha(1|256|512)sums?|md5sums?|checksums?|credits|makefile)([._-].*)?$",
    re.IGNORECASE,
)


def in_utf8(name: str) -> str:
    """A name from a file system or an archive, its bytes that are not UTF-8 written as `\\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def parts(name: str) -> list[str]:
    """The folders and the file of a name within its source."""
    return [p for p in name.replace("!/", "/").split("/") if p and p != "."]


def split_named(word: str) -> str:
    """The split that a folder or a stem of this name stands for, or ""."""
    return _SPLITS.get(word.lower(), "")


def split_of(name: str) -> str:
    """The split that a file lies in, by a folder of its path or by its stem."""
    *folders, last = parts(name)
    for folder in folders:
        if found := split_named(folder):
            return found
    return split_named(last.split(".")[0])


def is_about(name: str) -> bool:
    """Whether a file tells about a dataset and is no part of it: README, LICENSE, checksums, dot files."""
    last = parts(name)[-1] if parts(name) else name
    return last.startswith(".") or "__MACOSX" in name or bool(_ABOUT.match(last)) or last == "Thumbs.db"


def in_order(files: Iterable[SourceFile]) -> list[SourceFile]:
    """The files by name: the same order on every machine."""
    return sorted(files, key=lambda f: f.name)


def shared_folders(files: Sequence[SourceFile]) -> int:
    """How many leading folders all files have in common: those tell nothing apart."""
    folders = [parts(f.name)[:-1] for f in files]
    shared = 0
    while folders and all(len(f) > shared and f[shared] == folders[0][shared] for f in folders):
        shared += 1
    return shared


def class_folders(name: str, shared: int) -> list[str]:
    """The folders of a file below the shared ones, without those that are splits."""
    return [p for p in parts(name)[shared:-1] if not split_named(p)]
