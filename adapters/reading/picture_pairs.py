"""Finds pictures that belong to another picture: masks, and the targets of translation, by the names of their folders.

`images/a.jpg` and `masks/a.png`, `leftImg8bit/…/a_leftImg8bit.png` and `gtFine/…/a_gtFine_labelIds.png`, `A/a.png` and `B/a.png`.
The folders must say so: folders of classes may hold pictures of the same names too.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading.names import parts
from choline_data.adapters.reading.split_words import split_named, splits_in

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_WORDS = re.compile(r"[^A-Za-z]+")
_FIRST = frozenset(
    ["image", "images", "img", "imgs", "jpegimages", "rgb", "photo", "photos", "input", "inputs", "source", "original",
     "originals", "lr", "blur", "blurred", "hazy"]
)  # fmt: skip
_MASKS = frozenset(
    ["mask", "masks", "label", "labels", "annotation", "annotations", "annot", "annots", "anno", "segmentation",
     "segmentations", "seg", "trimap", "trimaps", "gt", "groundtruth"]
)  # fmt: skip
_TARGETS = frozenset(["output", "outputs", "target", "targets", "hr", "sharp"])
_SUFFIX = re.compile(
    r"[_-](?:mask|masks|seg|segmentation|label|labels|l|gt|groundtruth|leftimg8bit|rgb|gt(?:fine|coarse)_(?P<kind>\w+))$"
)
_SCALE = re.compile(r"x[2348]$")


@dataclass(frozen=True)
class Role:
    """The role of a picture among pictures that belong together: "" for the first one, "mask", "paired" or "?".

    `key` is equal for pictures that belong together, and `word` distinguishes several masks of one picture.
    """

    name: str
    key: tuple[str, ...]
    kind: str = ""


def role_of(name: str) -> Role:
    """Returns the role of a picture by its folders and the end of its name. "?" if a folder may be a class."""
    *folders, last = parts(name)
    stem = last.rpartition(".")[0].lower()
    match = _SUFFIX.search(stem)
    role, kind, unclear = "", (match["kind"] or "") if match else "", False
    kept: list[str] = []
    for folder in folders:
        found = _of_folder(folder)
        if found in ("mask", "paired"):
            role, kind = found, kind or re.sub(r"\W+", "_", folder.lower())
        elif found == "?":
            unclear = True
        split = split_named(folder) or "+".join(splits_in(folder))
        kept.append(split if split or found != "?" else folder.lower())
    key = (*(k for k in kept if k), _SCALE.sub("", _SUFFIX.sub("", stem)))
    return Role(role or ("?" if unclear else ""), key, kind)


def _of_folder(folder: str) -> str:
    """Returns the role that a folder names, "" for a folder of first pictures or of a split, "?" for any other folder."""
    words = [w for w in _WORDS.split(_HUMP.sub("_", folder).lower()) if w]
    if folder.upper() in ("A", "B"):
        return "paired" if folder.upper() == "B" else ""
    if set(words) & _MASKS:
        return "mask"
    if set(words) & _TARGETS:
        return "paired"
    if set(words) & _FIRST or _SCALE.fullmatch(folder.lower()) or split_named(folder) or splits_in(folder):
        return ""
    return "?"


def paired(pictures: Sequence[SourceFile]) -> dict[str, dict[str, SourceFile]]:
    """Returns the masks and targets of each first picture, by the name of the picture and the name of the column.

    Empty unless most masks and targets have exactly one first picture.
    """
    if _letters(pictures):
        return {}
    roles = {f.name: role_of(f.name) for f in pictures}
    firsts: defaultdict[tuple[str, ...], list[SourceFile]] = defaultdict(list)
    for file in pictures:
        if roles[file.name].name in ("", "?"):
            firsts[roles[file.name].key].append(file)
    others = [f for f in pictures if roles[f.name].name in ("mask", "paired")]
    found: defaultdict[str, dict[str, SourceFile]] = defaultdict(dict)
    kinds = {(roles[f.name].name, roles[f.name].kind) for f in others}
    matched = 0
    for file in others:
        role = roles[file.name]
        candidates = firsts.get(role.key, [])
        several = sum(name == role.name for name, _ in kinds) > 1
        column = f"{role.name}_{role.kind}" if several else role.name
        if len(candidates) == 1 and column not in found[candidates[0].name]:
            found[candidates[0].name][column] = file
            matched += 1
    return dict(found) if others and matched * 10 >= len(others) * 9 else {}


def _letters(pictures: Sequence[SourceFile]) -> bool:
    """Whether folders A and B lie beside folders without a role, such as C. Then they are classes."""
    beside: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for file in pictures:
        folders = parts(file.name)[:-1]
        for at, folder in enumerate(folders):
            beside[tuple(folders[:at])].add(folder)
    return any({"B", "b"} & names and any(_of_folder(name) == "?" for name in names) for names in beside.values())
