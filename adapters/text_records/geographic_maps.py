"""Reads GPX and KML: one track, route, waypoint or placemark for each row, with its points as lists.

`segments` of GPX are lists of points with latitude, longitude, elevation and time. `shapes` of KML have a type and their parts,
as lists of points [longitude, latitude] or [longitude, latitude, altitude]; the first part of a polygon is its outer ring. `more`
holds the other texts of an element by name, such as extensions and extended data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.text_records.line_records import TextRecord, claim_all, record_chunks, shards_of
from choline_data.adapters.text_records.xml_elements import XmlElement
from choline_data.adapters.text_records.xml_tree import xml_tree
from choline_data.errors import SourceDamagedError, SourceFormatError, one_line

MAX_MAP_BYTES = 128 << 20
_MORE = pa.map_(pa.string(), pa.string())
_POINT = pa.struct(
    [("lat", pa.float64()), ("lon", pa.float64()), ("ele", pa.float64()), ("time", pa.string()), ("more", _MORE)]
)
_SHAPE = pa.struct([("type", pa.string()), ("parts", pa.list_(pa.list_(pa.list_(pa.float64()))))])
_GPX = {"kind": pa.string(), "name": pa.string(), "segments": pa.list_(pa.list_(_POINT)), "more": _MORE}
_KML = {
    "name": pa.string(),
    "description": pa.large_string(),
    "folder": pa.string(),
    "shapes": pa.list_(_SHAPE),
    "more": _MORE,
}
_KINDS = {"wpt": "waypoint", "rte": "route", "trk": "track"}
_LINES = {"Point": "point", "LineString": "line", "LinearRing": "line", "Polygon": "polygon"}


@dataclass(frozen=True)
class GeographicMaps:
    """Reads GPX and KML files. An element with a coordinate that is no number is rejected."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows from number `start` on. Memory holds the whole file; MAX_MAP_BYTES bounds it."""
        data = io.content(shard.path, shard.name, limit=MAX_MAP_BYTES, what="a map", remedy="Split it with ogr2ogr.")
        try:
            root = xml_tree(data)
        except ValueError as error:
            raise SourceDamagedError(f"{shard.name}: {one_line(error, 160)}.", remedy="Fetch it again.") from error
        if root.name == "gpx":
            return record_chunks(_tracks(root), shard, start, _GPX)
        if root.name == "kml":
            return record_chunks(_placemarks(root, ""), shard, start, _KML)
        raise SourceFormatError(
            f"{shard.name} begins with <{one_line(root.name, 40)}>, not with <gpx> or <kml>.",
            remedy="Use `--format xml`.",
        )


ADAPTER = GeographicMaps


def _text(element: XmlElement | None) -> str | None:
    return (element.words() or None) if element is not None else None


def _leaves(element: XmlElement, without: frozenset[str], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the texts of the elements within this one by their names. A name that repeats is yielded again."""
    for child in element.children():
        if child.name in without and not prefix:
            continue
        name = f"{prefix}{child.name}"
        if child.children():
            yield from _leaves(child, without, f"{name}.")
        elif words := child.words():
            yield name, words
        yield from ((f"{name}@{key}", value) for key, value in child.attributes.items())


def _more(element: XmlElement, *without: str) -> list[tuple[str, str]]:
    """Returns the other texts of an element, those of one name joined by line ends."""
    found: dict[str, str] = {}
    for name, text in _leaves(element, frozenset(without)):
        found[name] = f"{found[name]}\n{text}" if name in found else text
    return list(found.items())


# --- GPX


def _tracks(root: XmlElement) -> Iterator[TextRecord]:
    for element in root.children():
        if element.name not in _KINDS:
            continue
        try:
            segments = [[_point(point) for point in group] for group in _groups(element)]
        except (ValueError, KeyError):
            yield TextRecord(fault="a point whose latitude, longitude or elevation is no number")
            continue
        values = {
            "kind": _KINDS[element.name],
            "name": _text(element.first("name")),
            "segments": segments,
            "more": [] if element.name == "wpt" else _more(element, "name", "trkseg", "rtept"),
        }
        yield TextRecord(values, 64 * sum(map(len, segments)) + 200)


def _groups(element: XmlElement) -> list[list[XmlElement]]:
    """Returns the points of each segment. A waypoint is a point itself, and a route has one segment."""
    if element.name == "wpt":
        return [[element]]
    if element.name == "rte":
        return [element.children("rtept")]
    return [segment.children("trkpt") for segment in element.children("trkseg")]


def _point(element: XmlElement) -> dict[str, Any]:
    height = _text(element.first("ele"))
    return {
        "lat": float(element.attributes["lat"]),
        "lon": float(element.attributes["lon"]),
        "ele": float(height) if height else None,
        "time": _text(element.first("time")),
        "more": _more(element, "ele", "time", *(("name",) if element.name == "wpt" else ())),
    }


# --- KML


def _placemarks(element: XmlElement, folder: str) -> Iterator[TextRecord]:
    for child in element.children():
        if child.name in ("Document", "Folder", "kml"):
            name = _text(child.first("name")) or ""
            yield from _placemarks(child, f"{folder}/{name}" if folder and name else folder or name)
        elif child.name == "Placemark":
            yield _placemark(child, folder)


def _placemark(element: XmlElement, folder: str) -> TextRecord:
    shapes: list[dict[str, Any]] = []
    try:
        for geometry in element.children():
            if geometry.name in ("Track", "MultiTrack", "Model"):
                return TextRecord(fault=f"a geometry <{geometry.name}>, which is not supported")
            if geometry.name in (*_LINES, "MultiGeometry"):
                shapes += _shapes(geometry)
    except ValueError:
        return TextRecord(fault="a coordinate that is no number")
    data = {
        each.attributes.get("name", ""): _text(each.first("value")) if each.name == "Data" else _text(each)
        for each in element.all_named("Data", "SimpleData")
    }
    more = _more(element, "name", "description", "ExtendedData", "MultiGeometry", *_LINES)
    values = {
        "name": _text(element.first("name")),
        "description": _described(element.first("description")),
        "folder": folder or None,
        "shapes": shapes,
        "more": [*more, *((key, value or "") for key, value in data.items() if key not in dict(more))],
    }
    points = sum(len(part) for shape in shapes for part in shape["parts"])
    return TextRecord(values, 64 * points + len(values["description"] or "") + 200)


def _described(element: XmlElement | None) -> str | None:
    text = "".join(part for part in element.parts if isinstance(part, str)).strip() if element is not None else ""
    return text or _text(element)


def _shapes(element: XmlElement) -> Iterator[dict[str, Any]]:
    if element.name == "MultiGeometry":
        for child in element.children():
            if child.name in (*_LINES, "MultiGeometry"):
                yield from _shapes(child)
        return
    rings = [element]
    if element.name == "Polygon":
        rings = element.children("outerBoundaryIs") + element.children("innerBoundaryIs")
    parts = [_coordinates(each) for ring in rings for each in ring.all_named("coordinates")]
    yield {"type": _LINES[element.name], "parts": parts}


def _coordinates(element: XmlElement) -> list[list[float]]:
    points = [[float(number) for number in point.split(",")] for point in element.words().split()]
    if any(len(point) not in (2, 3) for point in points):
        raise ValueError("a point without two or three numbers")
    return points


def detect(source: Source) -> list[FormatClaim]:
    """Claims the GPX and KML files."""
    return claim_all(source, GeographicMaps(), "a map in GPX or KML", kind="tabular")
