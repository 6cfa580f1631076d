"""Shapefiles, dBase tables, BSON, MessagePack and CBOR: content, damage and limits."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.test_language_records import rows_of

from choline_data.adapters.base import Adapter, SourceFile
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.tables.binary_documents import BinaryDocuments
from choline_data.adapters.tables.shapefiles import Shapefiles
from choline_data.errors import ChoiceNeededError, SourceDamagedError, SourceFormatError, SourceTooLargeError


def table(rows: list[bytes], fields: list[tuple[bytes, bytes, int, int]], page: int = 0, count: int = -1) -> bytes:
    """A dBase table of records that begin with their mark."""
    described = b"".join(
        name.ljust(11, b"\0") + kind + bytes(4) + bytes([size, decimals]) + bytes(14)
        for name, kind, size, decimals in fields
    )
    size = 1 + sum(size for _, _, size, _ in fields)
    head = struct.pack("<BBBBIHH", 3, 120, 1, 1, len(rows) if count < 0 else count, 33 + len(described), size)
    return head + bytes(17) + bytes([page, 0, 0]) + described + b"\r" + b"".join(rows) + b"\x1a"


FIELDS = [(b"NAME", b"C", 6, 0), (b"N", b"N", 4, 0), (b"X", b"N", 5, 2), (b"DAY", b"D", 8, 0), (b"OK", b"L", 1, 0)]
RECORDS = [b" Zo\xc3\xab  ", b"  12", b" 1.50", b"20200131", b"T"], [b"*gone  ", b"   1", b" 0.00", b"        ", b"?"]
DBF = table([b"".join(r) for r in (*RECORDS, [b" ", b" " * 6, b"****", b"     ", b"        ", b" "])], FIELDS)


def shapes(kind: int, bodies: list[bytes]) -> bytes:
    records = b"".join(struct.pack(">ii", n + 1, len(body) // 2) + body for n, body in enumerate(bodies))
    head = struct.pack(">i5ii", 9994, 0, 0, 0, 0, 0, (100 + len(records)) // 2)
    return head + struct.pack("<ii8d", 1000, kind, *[0.0] * 8) + records


def polygon(rings: list[list[tuple[float, float]]]) -> bytes:
    flat = [value for ring in rings for point in ring for value in point]
    starts = [sum(map(len, rings[:n])) for n in range(len(rings))]
    head = struct.pack("<i4dii", 5, 0, 0, 9, 9, len(rings), len(flat) // 2)
    return head + struct.pack(f"<{len(starts)}i{len(flat)}d", *starts, *flat)


RINGS = [[(0.0, 0.0), (0.0, 9.0), (9.0, 9.0), (0.0, 0.0)], [(1.0, 1.0), (2.0, 1.0), (2.0, 2.0), (1.0, 1.0)]]
SHP = shapes(5, [polygon(RINGS), polygon(RINGS[:1]), struct.pack("<i", 0)])


def test_records_of_dbase_have_their_types_without_deleted_ones(write: Callable[..., Path]) -> None:
    assert rows_of(write("a.dbf", DBF)) == (
        "Shapefiles",
        [
            {"NAME": "Zoë", "N": 12, "X": 1.5, "DAY": "2020-01-31", "OK": True},
            dict.fromkeys(("NAME", "N", "X", "DAY", "OK")),
        ],
    )


def test_shapes_are_joined_with_their_fields(tmp_path: Path) -> None:
    (tmp_path / "a.shp").write_bytes(SHP)
    (tmp_path / "a.dbf").write_bytes(DBF)
    (tmp_path / "a.prj").write_text('GEOGCS["GCS_WGS_1984"]')
    (tmp_path / "a.shx").write_bytes(SHP[:100])
    _, found = rows_of(tmp_path)
    rings = [[list(point) for point in ring] for ring in RINGS]
    assert [(row["shape"], row["parts"], row["N"]) for row in found] == [("polygon", rings, 12), (None, None, None)]


def test_the_encoding_is_stated_or_asked_about(tmp_path: Path) -> None:
    russian = table([b" \xcc\xe8\xf0"], [(b"NAME", b"C", 3, 0)])
    (tmp_path / "a.dbf").write_bytes(russian)
    with pytest.raises(ChoiceNeededError, match="does not state its encoding"):
        rows_of(tmp_path)
    (tmp_path / "a.cpg").write_text("ANSI 1251")
    assert rows_of(tmp_path)[1] == [{"NAME": "Мир"}]
    (tmp_path / "a.cpg").unlink()
    (tmp_path / "a.dbf").write_bytes(table([b" \xcc\xe8\xf0"], [(b"NAME", b"C", 3, 0)], page=0xC9))
    assert rows_of(tmp_path)[1] == [{"NAME": "Мир"}]


@pytest.mark.parametrize(
    ("shp", "dbf", "words"),
    [
        (SHP[:-8], DBF, "ends within a record"),
        (SHP, DBF[:-20], "ends within a record"),
        (SHP, table([], FIELDS), "more shapes than"),
        (shapes(5, [polygon(RINGS)]), DBF, "more records than"),
        (shapes(5, [polygon(RINGS)[:60]] * 3), DBF, "shape 0"),
        (shapes(5, [struct.pack("<i4dii", 5, 0, 0, 9, 9, 1, 1 << 30)] * 3), DBF, "more points than it has bytes"),
        (b"\0" * 200, DBF, "does not begin as a shapefile"),
        (SHP, table([], [(b"A", b"C", 3, 0)] * 2), "two fields"),
    ],
)
def test_a_damaged_shapefile_is_an_error(
    shp: bytes, dbf: bytes, words: str, tmp_path: Path, source_file: Callable[..., SourceFile]
) -> None:
    (tmp_path / "a.shp").write_bytes(shp)
    (tmp_path / "a.dbf").write_bytes(dbf)
    (shard,) = Shapefiles().shards([source_file(tmp_path / name) for name in ("a.shp", "a.dbf")])
    with pytest.raises(SourceDamagedError, match=words):
        list(Shapefiles().read(shard))


def test_shapes_without_their_table_and_memos_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.shp").write_bytes(SHP)
    with pytest.raises(SourceDamagedError, match=r"without its \.dbf"):
        rows_of(tmp_path)
    (tmp_path / "a.shp").unlink()
    (tmp_path / "a.dbf").write_bytes(table([], [(b"NOTE", b"M", 10, 0)]))
    with pytest.raises(SourceFormatError, match="type 'M'"):
        rows_of(tmp_path)


def element(kind: int, name: str, data: bytes) -> bytes:
    return bytes([kind]) + name.encode() + b"\0" + data


def document(*elements: bytes) -> bytes:
    body = b"".join(elements) + b"\0"
    return struct.pack("<i", len(body) + 4) + body


BSON = document(
    element(0x07, "_id", bytes(range(12))),
    element(0x02, "name", struct.pack("<i", 4) + "né".encode() + b"\0"),
    element(0x10, "n", struct.pack("<i", -5)),
    element(0x12, "big", struct.pack("<q", 1 << 60)),
    element(0x01, "x", struct.pack("<d", 2.0)),
    element(0x08, "ok", b"\1"),
    element(0x09, "at", struct.pack("<q", 1500)),
    element(0x04, "list", document(element(0x10, "0", struct.pack("<i", 7)), element(0x0A, "1", b""))),
    element(0x03, "in", document(element(0x05, "raw", struct.pack("<i", 2) + b"\0\xff\xfe"))),
    element(0x13, "price", (1999 | ((6176 - 2) << 113)).to_bytes(16, "little")),
)
BSON_ROW = {
    "_id": "000102030405060708090a0b", "name": "né", "n": -5, "big": 1 << 60, "x": 2.0, "ok": True,
    "at": "1970-01-01T00:00:01.500000+00:00", "list": [7, None], "in": {"raw": {"$binary": "//4="}}, "price": "19.99",
}  # fmt: skip
PACKED = b"\x84\xa1a\x01\xa1b\xcb\x3f\xf8\0\0\0\0\0\0\xa1c\x93\xc0\xc3\xd1\xff\x00\xa1t\xd6\xff\0\0\0\x01"
CBOR = b"\xa4aa\x01ab\xfb\x3f\xf8\0\0\0\0\0\0ac\x9f\xf6\xf5\x38\xff\xffat\xc1\x01"
SHARED = {"a": 1, "b": 1.5, "c": [None, True, -256], "t": "1970-01-01T00:00:01+00:00"}
DOCUMENTS: dict[str, tuple[bytes, list[dict[str, Any]]]] = {
    "a.bson": (BSON * 2, [BSON_ROW] * 2),
    "stream.msgpack": (PACKED * 3, [SHARED] * 3),
    "list.msgpack": (b"\x93" + PACKED * 3, [SHARED] * 3),
    "stream.cbor": (CBOR * 3, [SHARED] * 3),
    "list.cbor": (b"\xd9\xd9\xf7\x9f" + CBOR * 3 + b"\xff", [SHARED] * 3),
}


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without the marks of columns of JSON text."""
    import json

    return [{k: json.loads(v) if isinstance(v, str) and v[:1] == "[" else v for k, v in row.items()} for row in rows]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_have_their_values(name: str, write: Callable[..., Path]) -> None:
    content, expected = DOCUMENTS[name]
    adapter, found = rows_of(write(name, content))
    assert adapter == "BinaryDocuments"
    assert plain(found) == expected


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("lost", [1, 9])
def test_a_cut_file_of_documents_is_damaged_after_the_whole_ones(
    name: str, lost: int, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    content, expected = DOCUMENTS[name]
    found = read(BinaryDocuments(), write(name, content[:-lost]))
    assert isinstance(found.error, SourceDamagedError)
    assert len(found.rows) >= len(expected) - 1 - (lost == 9)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.msgpack", b"\x91" * 5000),
        ("a.cbor", b"\x81" * 5000),
        ("a.msgpack", b"\xc1"),
        ("a.cbor", b"\xff"),
        ("a.msgpack", b"\x82\xa1a\x01\xa1a\x02"),
        ("a.bson", struct.pack("<i", 3) + b"\0"),
        ("a.bson", document(element(0x55, "a", b""))),
    ],
)
def test_bytes_that_are_no_documents_are_damage(
    name: str, content: bytes, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    assert isinstance(read(BinaryDocuments(), write(name, content)).error, SourceDamagedError)


@pytest.mark.parametrize(
    ("name", "content"), [("a.msgpack", b"\xdb\x7f\xff\xff\xff"), ("a.cbor", b"\x7b" + b"\x7f" * 8)]
)
def test_a_length_above_the_limit_takes_no_memory(
    name: str, content: bytes, write: Callable[..., Path], read: Callable[..., Any]
) -> None:
    assert isinstance(read(BinaryDocuments(), write(name, content)).error, SourceTooLargeError)


class TestBinaryDocuments(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return BinaryDocuments()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write(name, content)) for name, (content, _) in DOCUMENTS.items()]


class TestShapefiles(AdapterContract):
    @pytest.fixture
    def adapter(self) -> Adapter:
        return Shapefiles()

    @pytest.fixture
    def files(self, write: Callable[..., Path], source_file: Callable[..., SourceFile]) -> list[SourceFile]:
        return [source_file(write("a.shp", SHP)), source_file(write("a.dbf", DBF))]
