"""Parses the files that annotate single images: Pascal VOC, YOLO, LabelMe, Supervisely, KITTI, VisDrone, DOTA, and CVAT.

The result for an image is the list of its objects. Each object has the fields of its source, under the names that the format's
documentation uses, and `category`, the name of its class.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.records import checked_loads
from choline_data.adapters.text_records.xml_records import records_in

Note = dict[str, Any]
_FLOAT = re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?$")
_KITTI = (
    "truncated", "occluded", "alpha", "left", "top", "right", "bottom", "height", "width", "length", "x", "y", "z",
    "rotation_y", "score",
)  # fmt: skip
_VISDRONE = ("left", "top", "width", "height", "score", "category_id", "truncation", "occlusion")


@dataclass(frozen=True)
class Classes:
    """The classes of a dataset in YOLO's form: their names, the number of key points, and the number of values for each
    key point.
    """

    names: tuple[str, ...] = ()
    keypoints: tuple[int, int] = (0, 0)


class NoteFault(Exception):
    """The error for a file that does not annotate its image correctly. Its message is the reason."""


@dataclass(frozen=True)
class NoteStyle:
    """A format of annotation files: their extensions, a test of the first bytes, and the parser."""

    name: str
    suffixes: tuple[str, ...]
    fits: Callable[[bytes], bool]
    parse: Callable[[bytes, str, Classes], list[Note]]


def _voc(data: bytes, name: str, _: Classes) -> list[Note]:
    records = records_in(data, name, "annotation")
    if not records:
        raise NoteFault("it is not an annotation of Pascal VOC")
    return [_plain({"category": item.get("name"), **item}) for item in _listed(records[0].get("object"))]


def _plain(item: Mapping[str, Any]) -> Note:
    """Returns an object of VOC with numbers as numbers, and without its name, which is the category."""
    return {key: _number(value) for key, value in item.items() if key != "name"}


def _number(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.removeprefix("@"): _number(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_number(inner) for inner in value]
    return float(value) if isinstance(value, str) and _FLOAT.match(value.strip()) else value


def _listed(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, Mapping)]


def _yolo(data: bytes, name: str, classes: Classes) -> list[Note]:
    return [_yolo_line(words, classes) for words in _rows(data, name)]


def _yolo_line(words: list[str], classes: Classes) -> Note:
    if not all(map(_FLOAT.match, words)) or not words[0].isdigit():
        raise NoteFault("a line does not consist of a class and numbers")
    number, values = int(words[0]), [float(word) for word in words[1:]]
    if classes.names and number >= len(classes.names):
        raise NoteFault(f"the class {number} is not among the {len(classes.names)} names of classes")
    note: Note = {"category": classes.names[number] if classes.names else None, "category_id": number}
    count, size = classes.keypoints
    if len(values) == 4 or (count and len(values) == 4 + count * size):
        note |= dict(zip(("x_center", "y_center", "width", "height"), values, strict=False))
        return note | ({"keypoints": values[4:]} if len(values) > 4 else {})
    if len(values) >= 6 and len(values) % 2 == 0 and not count:
        return note | {"polygon": values}
    raise NoteFault(f"a line has {len(words)} values, which can't be a box, polygon or pose of YOLO")


def _rows(data: bytes, name: str) -> Iterator[list[str]]:
    for line in decoded(data, name)[0].splitlines():
        if line.strip():
            yield re.split(r"[\s,]+", line.strip().rstrip(","))


def _kitti(data: bytes, name: str, _: Classes) -> list[Note]:
    found = []
    for words in _rows(data, name):
        if len(words) not in (15, 16) or not all(map(_FLOAT.match, words[1:])):
            raise NoteFault("a line does not have the 15 values of KITTI")
        found.append({"category": words[0], **dict(zip(_KITTI, map(float, words[1:]), strict=False))})
    return found


def _visdrone(data: bytes, name: str, _: Classes) -> list[Note]:
    found: list[Note] = []
    for words in _rows(data, name):
        if len(words) != 8 or not all(map(_FLOAT.match, words)):
            raise NoteFault("a line does not have the 8 values of VisDrone")
        found.append({"category": None, **dict(zip(_VISDRONE, map(int, map(float, words)), strict=True))})
    return found


def _dota(data: bytes, name: str, _: Classes) -> list[Note]:
    found: list[Note] = []
    for words in _rows(data, name):
        if len(words) == 1 and ":" in words[0]:
            continue  # header lines of DOTA
        if len(words) not in (9, 10) or not all(map(_FLOAT.match, words[:8])):
            raise NoteFault("a line does not have the values of DOTA")
        found.append(
            {"category": words[8], "polygon": [float(word) for word in words[:8]], "difficult": words[9:] == ["1"]}
        )
    return found


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = checked_loads(data.removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise NoteFault(str(error)) from error
    if not isinstance(value, dict):
        raise NoteFault("it is not an object")
    return value


def _labelme(data: bytes, _: str, __: Classes) -> list[Note]:
    shapes = _listed(_object(data).get("shapes"))
    return [{"category": s.get("label"), **{k: v for k, v in s.items() if k != "label"}} for s in shapes]


def _supervisely(data: bytes, _: str, __: Classes) -> list[Note]:
    objects = _listed(_object(data).get("objects"))
    return [{"category": o.get("classTitle"), **{k: v for k, v in o.items() if k != "classTitle"}} for o in objects]


def _cityscapes(data: bytes, _: str, __: Classes) -> list[Note]:
    return [{"category": o.get("label"), "polygon": o.get("polygon")} for o in _listed(_object(data).get("objects"))]


def _words(head: bytes) -> list[list[str]]:
    """Returns the words of the first lines."""
    lines = [line for line in head.decode("utf-8", "replace").splitlines() if line.strip()][:8]
    return [re.split(r"[\s,]+", line.strip().rstrip(",")) for line in lines]


def _are_numbers(words: Sequence[str]) -> bool:
    return all(map(_FLOAT.match, words))


def _fits_yolo(head: bytes) -> bool:
    rows = _words(head)
    commas = b"," in head
    return not commas and all(
        len(row) >= 5 and row[0].isdigit() and _are_numbers(row) and all(-0.5 <= float(v) <= 3 for v in row[1:5])
        for row in rows
    )


def _fits_kitti(head: bytes) -> bool:
    return bool(rows := _words(head)) and all(
        len(row) in (15, 16) and not _FLOAT.match(row[0]) and _are_numbers(row[1:]) for row in rows
    )


def _fits_visdrone(head: bytes) -> bool:
    return bool(rows := _words(head)) and b"," in head and all(len(r) == 8 and _are_numbers(r) for r in rows)


def _fits_dota(head: bytes) -> bool:
    rows = [row for row in _words(head) if not (len(row) == 1 and ":" in row[0])]
    return bool(rows) and all(
        len(r) in (9, 10) and _are_numbers(r[:8]) and not _FLOAT.match(r[8]) and r[9:] in ([], ["0"], ["1"], ["2"])
        for r in rows
    )


def _has(*patterns: bytes) -> Callable[[bytes], bool]:
    return lambda head: all(re.search(pattern, head) for pattern in patterns)


STYLES: tuple[NoteStyle, ...] = (
    NoteStyle("Pascal VOC", ("xml", ""), _has(rb"<annotation[\s>]", rb"<(?:filename|object|size)[\s>]"), _voc),
    NoteStyle("LabelMe", ("json",), _has(rb'"shapes"\s*:'), _labelme),
    NoteStyle("Supervisely", ("json",), _has(rb'"objects"\s*:', rb'"size"\s*:'), _supervisely),
    NoteStyle("Cityscapes", ("json",), _has(rb'"objects"\s*:', rb'"imgHeight"\s*:'), _cityscapes),
    NoteStyle("KITTI", ("txt",), _fits_kitti, _kitti),
    NoteStyle("VisDrone", ("txt",), _fits_visdrone, _visdrone),
    NoteStyle("DOTA", ("txt",), _fits_dota, _dota),
    NoteStyle("YOLO", ("txt",), _fits_yolo, _yolo),
)


def style_named(name: str) -> NoteStyle:
    """Returns the format with this name."""
    return next(style for style in STYLES if style.name == name)


def cvat_images(data: bytes, name: str) -> dict[str, list[Note]]:
    """Returns the objects of each image in an XML export of CVAT for images, by the name of the image."""
    found: dict[str, list[Note]] = {}
    for image in records_in(data, name, "image"):
        notes: list[Note] = []
        for shape in ("box", "polygon", "polyline", "points", "mask", "ellipse", "skeleton", "tag"):
            for item in _listed(image.get(shape)):
                values = {key.removeprefix("@"): value for key, value in item.items()}
                category = values.pop("label", None)
                plain = {key: value if key in ("points", "rle") else _number(value) for key, value in values.items()}
                notes.append({"category": category, "shape": shape, **plain})
        found[str(image.get("name", ""))] = notes
    return found


def classes_of(value: Any) -> Classes:
    """Returns the classes that a `data.yaml` of YOLO states."""
    if not isinstance(value, Mapping):
        return Classes()
    names, shape = value.get("names"), value.get("kpt_shape")
    if isinstance(names, Mapping) and all(str(key).isdigit() for key in names):
        table = {int(key): str(name) for key, name in names.items()}
        if sorted(table) != list(range(len(table))):
            return Classes()
        names = [table[number] for number in range(len(table))]
    if not isinstance(names, list):
        return Classes()
    count, size = shape if isinstance(shape, list) and len(shape) == 2 else (0, 0)
    return Classes(tuple(map(str, names)), (int(count), int(size)))
