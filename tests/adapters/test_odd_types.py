"""Every type that Arrow has comes in with its exact values, or is refused by name."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.adapters import arrow
from choline_data.adapters.base import SourceFile
from choline_data.adapters.mapping.extra import json_text, values_of
from choline_data.adapters.registry import adapter_named
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.catalog.register_in_place import register
from choline_data.errors import SourceFormatError, SourceTooLargeError
from choline_data.places.home import Home

FAR = 2**62
KEYS = pa.array([0, 1, None, 1], pa.int8())


def _binary(text: str) -> dict[str, str]:
    return {"$binary": text}


def _keyed(index: pa.DataType) -> pa.Array:
    return pa.DictionaryArray.from_arrays(KEYS.cast(index), pa.array(["x", "y"]))


def _stored(values: list[int | None], kind: pa.DataType) -> pa.Array:
    width = pa.int32() if pa.types.is_date32(kind) else pa.int64()
    return pa.array(values, width).cast(kind)


def _runs(values: pa.Array) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([2, 4], pa.int16()), values)


_INTERVALS = pa.array([(1, 2, 3), None, (0, 0, 0), (-1, 5, 10**12)], pa.month_day_nano_interval())
_DENSE = pa.UnionArray.from_dense(
    pa.array([0, 1, 0, 1], pa.int8()), pa.array([0, 0, 1, 1], pa.int32()), [pa.array([5, 6]), pa.array(["u", "v"])]
)
_SPARSE = pa.UnionArray.from_sparse(
    pa.array([0, 1, 0, 1], pa.int8()), [pa.array([5, 0, 6, 0]), pa.array(["", "u", "", "v"])]
)
_OFFSETS = pa.array([0, 1, 2, 3, 4], pa.int32())
_LONG = "a text that is too long to lie within a view"

# The column, and each of its values as JSON.
COLUMNS: dict[str, tuple[pa.Array, list[Any]]] = {
    "list view": (pa.array([[1, 2], None, [], [3]], pa.list_view(pa.int32())), [[1, 2], None, [], [3]]),
    "large list view": (pa.array([["a"], None, [], ["b"]], pa.large_list_view(pa.string())), [["a"], None, [], ["b"]]),
    "list view out of order": (
        pa.ListViewArray.from_arrays(
            pa.array([3, 0, 1, 0], pa.int32()), pa.array([2, 3, 0, 1], pa.int32()), pa.array([1, 2, 3, 4, 5])
        ),
        [[4, 5], [1, 2, 3], [], [1]],
    ),
    "list of list views": (
        pa.array([[[1]], None, [], [[2, 3]]], pa.list_(pa.list_view(pa.int8()))),
        [[[1]], None, [], [[2, 3]]],
    ),
    "text view": (pa.array(["a", None, _LONG, "b"], pa.string_view()), ["a", None, _LONG, "b"]),
    "bytes view": (
        pa.array([b"a", None, b"\xff" * 15, b"b"], pa.binary_view()),
        [_binary("YQ=="), None, _binary("//////////////////" + "//"), _binary("Yg==")],
    ),
    "list of text views": (pa.array([["a"], None, [], ["b"]], pa.list_(pa.string_view())), [["a"], None, [], ["b"]]),
    "map with text view keys": (
        pa.MapArray.from_arrays(_OFFSETS, pa.array(["a", "b", "c", "d"], pa.string_view()), pa.array([1, 2, 3, 4])),
        [{"a": 1}, {"b": 2}, {"c": 3}, {"d": 4}],
    ),
    "duration of a thousand lives": (
        pa.array([1, None, -5, FAR], pa.duration("s")),
        [{"$duration": 1, "unit": "s"}, None, {"$duration": -5, "unit": "s"}, {"$duration": FAR, "unit": "s"}],
    ),
    "date beyond the calendar": (
        _stored([2**31 - 1, None, 0, -(2**31)], pa.date32()),
        [{"$date": 2**31 - 1, "unit": "d"}, None, "1970-01-01", {"$date": -(2**31), "unit": "d"}],
    ),
    "time stamp beyond the calendar": (
        _stored([FAR, None, 0, -FAR], pa.timestamp("us")),
        [{"$timestamp": FAR, "unit": "us"}, None, "1970-01-01T00:00:00.000000", {"$timestamp": -FAR, "unit": "us"}],
    ),
    **{f"keys of {t}": (_keyed(t), ["x", "y", None, "y"]) for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    "a key for null": (pa.DictionaryArray.from_arrays(KEYS, pa.array(["x", None])), ["x", None, None, None]),
    "keys of lists": (pa.DictionaryArray.from_arrays(KEYS, pa.array([[1], [2, 3]])), [[1], [2, 3], None, [2, 3]]),
    "keys in a list": (pa.ListArray.from_arrays(_OFFSETS, _keyed(pa.uint8())), [["x"], ["y"], [None], ["y"]]),
    "keys in a struct": (
        pa.StructArray.from_arrays([_keyed(pa.uint32())], ["d"]),
        [{"d": "x"}, {"d": "y"}, {"d": None}, {"d": "y"}],
    ),
    "interval": (
        _INTERVALS,
        [
            {"$interval": {"months": 1, "days": 2, "nanoseconds": 3}},
            None,
            {"$interval": {"months": 0, "days": 0, "nanoseconds": 0}},
            {"$interval": {"months": -1, "days": 5, "nanoseconds": 10**12}},
        ],
    ),
    "decimal of 256 bits": (
        pa.array([Decimal("1.5"), None, Decimal(10) ** 60, Decimal("-2")], pa.decimal256(76, 1)),
        ["1.5", None, "1" + "0" * 60 + ".0", "-2.0"],
    ),
    "decimal of 32 bits": (
        pa.array([Decimal("1.5"), None, None, None], pa.decimal32(5, 2)),
        ["1.50", None, None, None],
    ),
    "runs of text": (_runs(pa.array(["p", None])), ["p", "p", None, None]),
    "runs of views": (_runs(pa.array([_LONG, "q"], pa.string_view())), [_LONG, _LONG, "q", "q"]),
    "runs in a list": (pa.ListArray.from_arrays(_OFFSETS, _runs(pa.array([7, 8]))), [[7], [7], [8], [8]]),
    "dense union": (_DENSE, [5, "u", 6, "v"]),
    "sparse union": (_SPARSE, [5, "u", 6, "v"]),
    "list of unions": (pa.ListArray.from_arrays(_OFFSETS, _DENSE), [[5], ["u"], [6], ["v"]]),
    "null": (pa.nulls(4), [None] * 4),
    "list of nulls": (pa.array([[None], None, [], [None]], pa.list_(pa.null())), [[None], None, [], [None]]),
    "map with integer keys": (
        pa.array([[(1, "x")], None, [], [(2, "y")]], pa.map_(pa.int32(), pa.string())),
        [[[1, "x"]], None, [], [[2, "y"]]],
    ),
    "map that repeats a key": (
        pa.array([[("b", 2)], None, [], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int32())),
        [{"b": 2}, None, {}, [["a", 1], ["a", 2]]],
    ),
    "map with struct keys": (
        pa.array([[({"k": 1}, "x")], None, [], []], pa.map_(pa.struct([("k", pa.int8())]), pa.string())),
        [[[{"k": 1}, "x"]], None, [], []],
    ),
    "half a float": (pa.array([1.5, None, 65504.0, float("nan")], pa.float16()), [1.5, None, 65504.0, "NaN"]),
    "lists of no width": (pa.array([[], None, [], []], pa.list_(pa.int8(), 0)), [[], None, [], []]),
    "struct of no fields": (pa.array([{}, None, {}, {}], pa.struct([])), [{}, None, {}, {}]),
    "uuid": (
        pa.array([b"0" * 16, None, b"1" * 16, None], pa.uuid()),
        [_binary("MDAwMDAwMDAwMDAwMDAwMA=="), None, _binary("MTExMTExMTExMTExMTExMQ=="), None],
    ),
    "uuid in a struct": (
        pa.StructArray.from_arrays([pa.array([b"0" * 16, None, None, None], pa.uuid())], ["u"]),
        [{"u": _binary("MDAwMDAwMDAwMDAwMDAwMA==")}, {"u": None}, {"u": None}, {"u": None}],
    ),
    "eight bits of truth": (pa.array([1, None, 0, 5], pa.int8()).cast(pa.bool8()), [1, None, 0, 5]),
}


def _read(path: Path, adapter: str) -> list[pa.RecordBatch]:
    reader = adapter_named(adapter)
    shards = reader.shards([SourceFile(str(path), path.name, path.stat().st_size)])
    return [chunk.batch for shard in shards for chunk in reader.read(shard)]


def _written(folder: Path, column: pa.Array, form: str) -> Path:
    path, table = folder / f"odd.{form}", pa.table({"col": column})
    if form == "parquet":
        try:
            pq.write_table(table, path)
        except (pa.ArrowException, OSError):
            pytest.skip("Parquet has no such type")
    else:
        make = pa.ipc.new_file if form == "arrow" else pa.ipc.new_stream
        with make(path, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("form", ["arrow", "arrows", "parquet"])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_type_comes_in_with_its_exact_values(tmp_path, name, form):
    column, wanted = COLUMNS[name]
    # Parts of a bigger array: what lies before and after them must not come in.
    for part, values in ((column, wanted), (column.slice(1, 2), wanted[1:3]), (column.slice(3), wanted[3:])):
        if form == "parquet" and "no width" in name:
            pytest.skip("pyarrow can't read them back")
        batches = _read(_written(tmp_path, part, form), "parquet" if form == "parquet" else "arrow")
        told = [json.loads(text) for batch in batches for text in json_text(batch["col"]).to_pylist()]
        assert told == values
        assert all(len(values_of(batch["col"])) == batch.num_rows for batch in batches)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), "two fields named 'a'"),
        (_stored([0], pa.timestamp("ns", "No/Where")), "time zone 'No/Where'"),
        (pa.array([[0]], pa.list_(pa.int64())).cast(pa.list_(pa.timestamp("ns", "No/Where"))), "time zone 'No/Where'"),
    ],
)
def test_a_type_whose_values_cant_be_told_exactly_is_refused_by_name(tmp_path, column, said):
    for form in ("arrow", "parquet"):
        with pytest.raises(SourceFormatError, match=said) as error:
            _read(_written(tmp_path, column, form), form)
        assert f"odd.{form}: column 'col'" in error.value.message
        assert error.value.remedy


def test_rows_that_take_no_bytes_are_bounded(tmp_path, monkeypatch):
    path = _written(tmp_path, pa.nulls(2000), "arrows")
    assert sum(batch.num_rows for batch in _read(path, "arrow")) == 2000
    monkeypatch.setattr(arrow, "MAX_BATCH_ROWS", 1999)
    with pytest.raises(SourceTooLargeError, match=r"2,000 rows; the limit \(MAX_BATCH_ROWS\) is 1,999"):
        _read(path, "arrow")


def _int96(folder: Path, values: list[int | None], unit: str) -> Path:
    times = pa.array(values, pa.int64()).cast(pa.timestamp(unit))
    table = pa.table({"flat": times, "deep": pa.array([[v] for v in times.to_pylist()], pa.list_(pa.timestamp(unit)))})
    pq.write_table(table, folder / "old.parquet", use_deprecated_int96_timestamps=True)
    return folder / "old.parquet"


def test_int96_times_beyond_nanoseconds_are_read_in_microseconds(tmp_path):
    year_9999 = 253402225200 * 10**6
    (batch,) = _read(_int96(tmp_path, [year_9999, None, 5], "us"), "parquet")
    assert batch["flat"].cast(pa.int64()).to_pylist() == [year_9999, None, 5]
    assert batch["deep"].flatten().cast(pa.int64()).to_pylist() == [year_9999, None, 5]
    (batch,) = _read(_int96(tmp_path, [10**18, None, 5000], "ns"), "parquet")
    assert batch["flat"].type == pa.timestamp("ns")
    assert batch["flat"].cast(pa.int64()).to_pylist() == [10**18, None, 5000]


def test_a_row_with_an_int96_time_that_no_timestamp_holds_is_rejected(shared_data, tmp_path):
    path = shared_data / "parquet_testing" / "int96_from_spark.parquet"
    reader = adapter_named("parquet")
    (shard,) = reader.shards([SourceFile(str(path), path.name, path.stat().st_size)])
    chunks = list(reader.read(shard))
    (reject,) = [reject for chunk in chunks for reject in chunk.rejects]
    assert (reject.row, "INT96" in reject.reason) == (5, True)
    (chunk,) = [chunk for chunk in chunks if chunk.batch.num_rows]
    assert chunk.rows.tolist() == [0, 1, 2, 3, 4]
    year_9999 = 253402225200 * 10**6
    assert chunk.batch["a"].cast(pa.int64()).to_pylist()[1:] == [
        1704070800 * 10**6,
        year_9999,
        1735599600 * 10**6,
        None,
    ]
    assert [chunk.rows.tolist() for chunk in reader.read(shard, start=3) if chunk.batch.num_rows] == [[3, 4]]


@pytest.mark.parametrize("flags", [{}, {"in_place": True}])
def test_such_a_row_is_left_out_of_a_dataset_in_place_too(shared_data, tmp_path, flags):
    home = Home(tmp_path / "home")
    path = shared_data / "parquet_testing" / "int96_from_spark.parquet"
    prepared = prepare(home, str(path), name="old", wishes=Wishes(max_rejects=0.5))
    done = register(home, prepared) if flags else ingest(home, prepared)
    assert (done.rows, done.rejected) == (5, 1)
