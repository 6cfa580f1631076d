"""Values that have no place in the schema become JSON, and the JSON reads back as the same values."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choline_data.adapters.mapping.extra import extra_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
CELLS = {
    "string": (pa.string(), TEXT),
    "large_string": (pa.large_string(), TEXT),
    "int64": (pa.int64(), NUMBERS),
    "float64": (pa.float64(), FLOATS),
    "bool": (pa.bool_(), st.booleans()),
    "list<string>": (pa.list_(pa.string()), st.lists(st.none() | TEXT, max_size=3)),
    "list<list<int>>": (
        pa.list_(pa.list_(pa.int32())),
        st.lists(st.lists(st.integers(0, 9), max_size=2), max_size=2),
    ),
    "struct": (
        pa.struct([("a", pa.string()), ("b", pa.list_(pa.float64()))]),
        st.fixed_dictionaries({"a": st.none() | TEXT, "b": st.none() | st.lists(FLOATS, max_size=2)}),
    ),
}


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    rows = draw(st.integers(0, 5))
    names = draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))
    columns = []
    for _ in names:
        kind, values = CELLS[draw(st.sampled_from(sorted(CELLS)))]
        cells = draw(st.lists(st.none() | values, min_size=rows + 1, max_size=rows + 1))
        # A slice, since offsets into a parent are where such code goes wrong.
        columns.append(pa.array(cells, kind).slice(1))
    return pa.RecordBatch.from_arrays(columns, names)


@settings(max_examples=150, deadline=None)
@given(batches())
def test_every_row_reads_back_as_it_was(batch: pa.RecordBatch) -> None:
    made = extra_json(batch, batch.schema.names)
    made.validate(full=True)
    assert [json.loads(row) for row in made.to_pylist()] == batch.to_pylist()
    assert all(list(json.loads(row)) == batch.schema.names for row in made.to_pylist())


def row(value: object, kind: pa.DataType) -> object:
    batch = pa.RecordBatch.from_arrays([pa.array([value], kind)], ["v"])
    return json.loads(extra_json(batch, ["v"])[0].as_py())["v"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "kind", "written"),
    [
        (math.nan, pa.float64(), "NaN"),
        (math.inf, pa.float32(), "Infinity"),
        (-math.inf, pa.float64(), "-Infinity"),
        (0.5, pa.float16(), 0.5),
        (decimal.Decimal("1.50"), pa.decimal128(9, 2), "1.50"),
        (dt.date(2024, 2, 29), pa.date32(), "2024-02-29"),
        (dt.datetime(2024, 2, 29, 1, 2, 3, tzinfo=dt.UTC), pa.timestamp("s", "UTC"), "2024-02-29T01:02:03Z"),
        (dt.datetime(2024, 2, 29, 1, 2, 3), pa.timestamp("ms"), "2024-02-29T01:02:03.000"),
        (dt.timedelta(seconds=5), pa.duration("s"), {"$duration": 5, "unit": "s"}),
        (b"\x00\xff", pa.binary(), {"$binary": "AP8="}),
        ([("a", 1), ("b", None)], pa.map_(pa.string(), pa.int32()), {"a": 1, "b": None}),
        ([(1, "x")], pa.map_(pa.int32(), pa.string()), [[1, "x"]]),
        ("x", pa.dictionary(pa.int8(), pa.string()), "x"),
        ([1.0, 2.5], pa.list_(pa.float32(), 2), [1.0, 2.5]),
        (None, pa.null(), None),
        ({}, pa.struct([]), {}),
    ],
)
def test_values_that_json_lacks_are_written_as_documented(value: object, kind: pa.DataType, written: object) -> None:
    assert row(value, kind) == written


def test_a_float_that_is_whole_stays_a_float() -> None:
    assert isinstance(row(1.0, pa.float64()), float)


def test_json_text_is_embedded_and_what_is_not_json_stays_a_string() -> None:
    field = pa.field("v", pa.string(), metadata={b"json": b"1"})
    batch = pa.RecordBatch.from_arrays([pa.array(['{"a": [1]}', "{", None])], schema=pa.schema([field]))
    assert [json.loads(r)["v"] for r in extra_json(batch, ["v"]).to_pylist()] == [{"a": [1]}, "{", None]


def test_a_rest_stands_for_its_column_and_is_left_out_where_null() -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1, 2], "b": ["x", "y"], "c": [3, 4]})
    made = extra_json(batch, ["a"], {"b": pa.array(['{"k":1}', None], pa.large_string())})
    assert made.to_pylist() == ['{"a":1,"b":{"k":1}}', '{"a":2}']


def test_no_columns_give_null_not_an_empty_object() -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1, 2]})
    assert extra_json(batch, []).to_pylist() == [None, None]
    assert extra_json(batch, [], {"a": pa.nulls(2, pa.large_string())}).to_pylist() == [None, None]
