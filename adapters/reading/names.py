"""What file names say: which files only describe the dataset, and which folders are classes. Also sorts files by name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading.split_words import split_named, without_split

_ABOUT = re.compile(
    r"^(readme|licen[cs]es?|copying|citation|dataset_card|sha(1|256|512)sums?|md5sums?|checksums?|makefile)([._-].*)?$",
    re.IGNORECASE,
)
# In capitals only, because these are everyday words: `history.txt` may be a document, and `news.jsonl` may hold rows.
_ABOUT_IN_CAPITALS = re.compile(
    r"^(NOTICE|AUTHORS|CONTRIBUTORS|CHANGELOG|CHANGES|HISTORY|NEWS|CREDITS)(\.(txt|md|rst|TXT|MD))?$"
    r"|^(notice|authors|contributors|changelog|changes|history|news|credits)(\.(md|rst))?$",
)


def in_utf8(name: str) -> str:
    """Returns a name from a file system or an archive. Bytes that are not UTF-8 are written like `\\xe9`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def parts(name: str) -> list[str]:
    """Returns the folders and the file of a name within its source."""
    found = name.replace("!/", "/").split("/")
    return [p for p in found if p and p != "."] if "" in found or "." in found else found


def is_about(name: str) -> bool:
    """Whether a file describes a dataset and is not part of its data: README, LICENSE, checksums, dot files."""
    last = name[name.rfind("/") + 1 :]  # `parts` takes longer, and this is asked for each file by each format
    if last in ("", "."):
        last = parts(name)[-1] if parts(name) else name
    if last.startswith(".") or "__MACOSX" in name or last == "Thumbs.db":
        return True
    return bool(_ABOUT.match(last) or (_ABOUT_IN_CAPITALS.match(last) and len(parts(name)) == 1))


def in_order(files: Iterable[SourceFile]) -> list[SourceFile]:
    """Returns the files sorted by name. The order is the same on every machine."""
    return sorted(files, key=lambda f: f.name)


def shared_folders(files: Sequence[SourceFile]) -> int:
    """Returns the number of leading folders that all files share. These folders do not distinguish the files."""
    return equal_folders([parts(f.name)[:-1] for f in files])


def equal_folders(folders: Sequence[Sequence[str]]) -> int:
    """Returns the number of leading folders that all these lists of folders share."""
    shared = 0
    while folders and all(len(f) > shared and f[shared] == folders[0][shared] for f in folders):
        shared += 1
    return shared


def class_folders(file: SourceFile, shared: int) -> list[str]:
    """Returns the folders of a file below the shared ones, without folders that name a split."""
    return [p for p in parts(file.name)[shared:-1] if not split_named(p)]


def labels_in(folders: Sequence[str], file: SourceFile) -> list[str]:
    """Returns the class folders of a file without the word of its split: `A` for a file for training in `trainA`.

    The folder `images` inside of a class folder belongs to the class.
    """
    found = list(filter(None, (without_split(folder, file.split) for folder in folders)))
    return (
        found[:-1] if len(found) > 1 and found[-1].lower() in ("images", "imgs", "wavs", "clips", "videos") else found
    )
