"""GPX and KML: tracks, waypoints and placemarks with their points; damage and hostile XML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.test_language_records import rows_of

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.text_records.geographic_maps import GeographicMaps
from choline_data.errors import SourceDamagedError

GPX = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<gpx xmlns="http://www.topografix.com/GPX/1/1" xmlns:x="u" version="1.1">\n'
    '<metadata><name>All</name></metadata><wpt lat="1" lon="2.5"><ele>7</ele><name>W é</name><sym>Flag</sym></wpt>\n'
    '<rte><name>R</name><rtept lat="3" lon="4"/></rte>\n<trk><name>T</name><type>run</type>'
    '<trkseg><trkpt lat="10" lon="20"><ele>1.5</ele><time>2020-01-01T00:00:00Z</time>'
    '<extensions><x:hr>99</x:hr></extensions></trkpt><trkpt lat="11" lon="21"/></trkseg>'
    '<trkseg><trkpt lat="12" lon="22"/></trkseg></trk>\n</gpx>\n'
)
KML = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<kml xmlns="http://www.opengis.net/kml/2.2"><Document><name>Doc</name>\n'
    "<Folder><name>F</name><Placemark><name>P</name><description><![CDATA[<b>x</b> & y]]></description>"
    '<ExtendedData><Data name="pop"><value>12</value></Data></ExtendedData>'
    "<Point><coordinates> 18.5,-33.25 </coordinates></Point></Placemark></Folder>\n"
    "<Placemark><name>Q</name><styleUrl>#s</styleUrl><MultiGeometry><Polygon>"
    "<innerBoundaryIs><LinearRing><coordinates>1,1 2,1 2,2 1,1</coordinates></LinearRing></innerBoundaryIs>"
    "<outerBoundaryIs><LinearRing><coordinates>0,0 9,0 9,9 0,0</coordinates></LinearRing></outerBoundaryIs></Polygon>"
    "<LineString><coordinates>0,0,1\n 1,1,2</coordinates></LineString></MultiGeometry></Placemark></Document></kml>\n"
)


def point(lat: float, lon: float, **more: Any) -> dict[str, Any]:
    return {"lat": lat, "lon": lon, "ele": None, "time": None, "more": []} | more


def test_tracks_routes_and_waypoints_are_rows(write: Callable[..., Path]) -> None:
    first = point(10, 20, ele=1.5, time="2020-01-01T00:00:00Z", more=[("extensions.hr", "99")])
    assert rows_of(write("a.gpx", GPX)) == (
        "GeographicMaps",
        [
            {
                "kind": "waypoint",
                "name": "W é",
                "segments": [[point(1, 2.5, ele=7, more=[("sym", "Flag")])]],
                "more": [],
            },
            {"kind": "route", "name": "R", "segments": [[point(3, 4)]], "more": []},
            {
                "kind": "track",
                "name": "T",
                "segments": [[first, point(11, 21)], [point(12, 22)]],
                "more": [("type", "run")],
            },
        ],
    )


def test_placemarks_have_their_shapes_and_data(write: Callable[..., Path]) -> None:
    rings = [[[0, 0], [9, 0], [9, 9], [0, 0]], [[1, 1], [2, 1], [2, 2], [1, 1]]]
    line = [[[0, 0, 1], [1, 1, 2]]]
    assert rows_of(write("a.kml", KML))[1] == [
        {"name": "P", "description": "<b>x</b> & y", "folder": "Doc/F", "more": [("pop", "12")],
         "shapes": [{"type": "point", "parts": [[[18.5, -33.25]]]}]},
        {"name": "Q", "description": None, "folder": "Doc", "more": [("styleUrl", "#s")],
         "shapes": [{"type": "polygon", "parts": rings}, {"type": "line", "parts": line}]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.gpx", GPX.replace('lat="11"', 'lat="north"'), "latitude"),
        ("a.gpx", GPX.replace('lat="11" ', ""), "latitude"),
        ("a.kml", KML.replace("18.5,", "x,"), "no number"),
        ("a.kml", KML.replace("18.5,-33.25", "18.5"), "no number"),
        ("a.kml", KML.replace("Point>", "Track>"), "<Track>"),
    ],
)
def test_an_element_that_cannot_be_read_is_rejected(
    name: str, content: str, reason: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    found = read(GeographicMaps(), write(name, content))
    assert found.error is None
    assert len(found.rejects) == 1
    assert reason in found.rejects[0].reason


@pytest.mark.parametrize(
    "content",
    [GPX[:-20], GPX.replace("?>\n", '?>\n<!DOCTYPE gpx [<!ENTITY a "b">]>\n', 1), "<gpx>" * 500],
    ids=["cut", "entity", "deep"],
)
def test_damaged_and_hostile_maps_are_errors(
    content: str, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    assert isinstance(read(GeographicMaps(), write("a.gpx", content)).error, SourceDamagedError)


class TestMaps(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return GeographicMaps()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write("a.gpx", GPX)), source_file(write("b.kml", KML))]
