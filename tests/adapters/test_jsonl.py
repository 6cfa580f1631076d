"""JSON Lines: each line has the same meaning with every parser."""

import gzip
import json

import orjson
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from choline_data.adapters import jsonl
from choline_data.adapters.base import Shard
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.jsonl import JsonLines
from choline_data.adapters.reading import io, plain_files, records
from choline_data.errors import SourceDamagedError, SourceTooLargeError


class TestContract(AdapterContract):
    @pytest.fixture
    def adapter(self):
        return JsonLines()

    @pytest.fixture
    def files(self, write, source_file):
        plain = b"".join(b'{"n": %d, "text": "row %d"}\n' % (n, n) for n in range(9000))
        ragged = b'{"a": 1}\nnot json\n\n{"a": "x", "b": {"c": [1, "2"]}}\n[]\n{"d": "2020-01-01"}\n'
        return [source_file(write("a.jsonl", plain)), source_file(write("b.jsonl.gz", gzip.compress(ragged)))]


def test_a_bad_line_is_a_reject_with_its_line_and_reason(read, write):
    found = read(JsonLines(), write("a.jsonl", b'{"a": 1}\n\n{"a": \n{"a": 2}\n"x"\n{"a": "\xff"}\n'))
    assert [row["a"] for row in found.rows] == [1, 2]
    assert [(r.row, r.reason) for r in found.rejects] == [
        (1, "line 3: not JSON: unexpected end of data (column 7)"),
        (3, "line 5: the line holds a string, not an object"),
        (4, "line 6: not UTF-8 at byte 7"),
    ]


def test_text_that_looks_like_a_date_stays_text(read, write):
    found = read(JsonLines(), write("a.jsonl", '{"a": "2020-01-01", "b": [{"c": "2020-01-01 10:00:00"}]}\n'))
    assert found.rows == [{"a": "2020-01-01", "b": [{"c": "2020-01-01 10:00:00"}]}]


def test_values_of_differing_types_become_json_without_loss(read, write):
    found = read(JsonLines(), write("a.jsonl", '{"a": 1, "b": 2}\n{"a": "x"}\n{"a": [1, null]}\n'))
    assert [row["a"] for row in found.rows] == ["1", '"x"', "[1,null]"]
    schema = found.chunks[0].batch.schema
    assert schema.field("a").metadata == records.JSON_FIELD
    assert schema.field("b").type == pa.int64()


def test_an_integer_beyond_64_bits_is_not_rounded(read, write):
    found = read(JsonLines(), write("a.jsonl", '{"a": 123456789012345678901234567890}\n{"a": 1}\n'))
    assert [row["a"] for row in found.rows] == ["123456789012345678901234567890", "1"]
    found = read(JsonLines(), write("b.jsonl", '{"a": 9007199254740993}\n{"a": 0.5}\n'))
    assert [row["a"] for row in found.rows] == ["9007199254740993", "0.5"]


def test_a_list_that_begins_with_null_keeps_its_values(read, write):
    lines = '{"a": [null, 1], "b": [null, {"c": 1}], "d": [null, null]}\n'
    (row,) = read(JsonLines(), write("a.jsonl", lines)).rows
    assert row == {"a": [None, 1], "b": '[null,{"c":1}]', "d": "[null,null]"}


def test_two_objects_on_a_line_are_no_row(read, write):
    found = read(JsonLines(), write("a.jsonl", '{"a": 1}{"a": 2}\n{"a": 3}\r{"a": 4}\n{"a": 5}\n'))
    assert found.rows == [{"a": 5}]
    assert [r.row for r in found.rejects] == [0, 1]


def test_a_duplicate_key_keeps_its_last_value(read, write):
    assert read(JsonLines(), write("a.jsonl", '{"a": 1, "a": 2}\n')).rows == [{"a": 2}]


def test_a_cut_stream_gives_its_whole_lines_and_then_the_error(read, write):
    whole = gzip.compress(b"".join(b'{"n": %d, "x": "%064d"}\n' % (n, n * n) for n in range(5000)))
    found = read(JsonLines(), write("a.jsonl.gz", whole[: len(whole) // 2]))
    assert 100 < found.count < 5000
    assert [row["n"] for row in found.rows] == list(range(found.count))
    assert isinstance(found.error, SourceDamagedError)
    assert "a.jsonl.gz" in str(found.error)


def test_a_line_over_the_limit_is_a_reject_and_is_not_held(read, write):
    lines = b'{"a": 1}\n' + b'{"a": "' + b"x" * (9 << 20) + b'"}\n' + b'{"a": 2}\n'
    found = read(JsonLines(max_row_bytes=1 << 20), write("a.jsonl", lines))
    assert [row["a"] for row in found.rows] == [1, 2]
    (reject,) = found.rejects
    assert reject.row == 1
    assert "max_row_bytes" in reject.reason


@pytest.mark.parametrize("ranges", [2, 3, 7, 50])
def test_ranges_of_bytes_hold_each_line_once(write, ranges):
    data = b"".join(b'{"n": %d, "x": "%s"}\n' % (n, b"y" * (n % 17)) for n in range(300))
    path = write("a.jsonl", data)
    edges = [len(data) * i // ranges for i in range(ranges)]
    shards = [Shard(str(path), "a.jsonl", start=s, end=e) for s, e in zip(edges, [*edges[1:], -1], strict=True)]
    numbers = [n for s in shards for c in JsonLines().read(s) for n in c.batch.column("n").to_pylist()]
    assert numbers == list(range(300))


def test_a_big_plain_file_is_read_in_ranges(write, source_file, monkeypatch):
    monkeypatch.setattr(jsonl, "SHARD_BYTES", 1000)
    path = write("a.jsonl", b"".join(b'{"n": %d}\n' % n for n in range(1000)))
    shards = JsonLines().shards([source_file(path)])
    assert len(shards) == path.stat().st_size // 1000
    assert sum(len(c.rows) for s in shards for c in JsonLines().read(s)) == 1000


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3))
objects = st.lists(
    st.dictionaries(st.sampled_from(["a", "b", "2020-01-01"]), values, min_size=1), min_size=1, max_size=5
)


def without_nulls(value):
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None and without_nulls(v) != {}}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None)
@given(objects)
def test_no_value_changes_on_its_way_into_columns(rows):
    lines = b"\n".join(records.dumps(row) for row in rows)
    found = []
    for part in records.records_of_lines(lines):
        texts = {f.name for f in part.batch.schema if f.metadata == records.JSON_FIELD}
        for row in part.batch.to_pylist():
            found.append({k: json.loads(v) if k in texts and v is not None else v for k, v in row.items()})
    refused = {place for part in records.records_of_lines(lines) for place, _ in part.refused}
    assert [without_nulls(row) for row in found] == [
        without_nulls(json.loads(records.dumps(row))) for place, row in enumerate(rows) if place not in refused
    ]


def test_a_file_named_json_that_holds_lines_is_claimed(write, source):
    lines = write("a.json", '{"a": 1}\n{"a": 2}\n')
    document = write("b.json", '{\n "a": 1\n}\n')
    (claim,) = jsonl.detect(source(lines, document))
    assert [f.name for f in claim.files] == ["a.json"]


def test_an_endless_line_ends_with_an_error(write, monkeypatch):
    monkeypatch.setattr(io, "SKIP_BYTES", 12 << 20)
    path = write("a.jsonl", b"x" * (14 << 20))
    with pytest.raises(SourceTooLargeError, match="max_row_bytes"):
        list(io.line_blocks(str(path), max_row_bytes=1 << 20))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 70), max_size=40),
    ended=st.booleans(),
    read=st.integers(1, 40),
    more=st.integers(1, 40),
)
def test_blocks_are_whole_lines_however_the_file_comes(tmp_path, lengths, ended, read, more):
    lines = [bytes([97 + number % 26]) * length for number, length in enumerate(lengths)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n" * (ended and bool(lines)))
    limit, block = 45, read + more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_files, "READ_BYTES", read)
        patch.setattr(io, "BLOCK_BYTES", block)
        found = list(io.line_blocks(str(path), max_row_bytes=limit))
    got = []
    for piece in found:
        got += [piece] if isinstance(piece, int) else piece.removesuffix(b"\n").split(b"\n")
    wanted = lines if ended or not lines or lines[-1] else lines[:-1]  # a file ends with its last line feed, or without
    assert [line if isinstance(line, int) else len(line) for line in got] == [len(line) for line in wanted]
    assert all(line == there or line == len(there) > limit for line, there in zip(got, wanted, strict=True))
    assert all(isinstance(piece, int) or len(piece) < block + read + limit for piece in found)


def test_orjson_refuses_what_rfc_8259_refuses():
    for text in (b"NaN", b"[1e999]", b"Infinity", b'"\\ud800"', b'"\x01"'):
        with pytest.raises(orjson.JSONDecodeError):
            orjson.loads(text)


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ({"b": "2026-01-02", "a": 1}, {"b": "2026-01-03", "a": 2, "new": "2026-01-04T05:06:07Z"}),
        ({"b": "2026-01-02", "a": 1}, {"c": "x", "b": "no date at all"}),
        ({"b": "2026-01-02", "a": 1}, {"c": "x", "b": None}),
        ({"b": None, "a": 1}, {"a": 2, "b": "2026-01-02"}),
        ({"b": {"on": "2026-01-02"}, "a": 1}, {"a": 2, "b": {"on": "2026-01-02", "by": "2026-01-02 03:04:05"}}),
        ({"b": ["2026-01-02"], "a": "2026-01-02"}, {"a": "1999-12-31", "b": []}),
        ({"b": "2026-01-02", "a": 1}, {"b": 7, "a": 2}),
    ],
)
def test_dates_stay_the_text_they_are_wherever_in_a_block_they_begin(first, later):
    rows = [first] * 4000 + [later] * 60_000
    (found,) = records.records_of_lines(b"\n".join(map(orjson.dumps, rows)))
    names = list(dict.fromkeys([*first, *later]))
    assert found.batch.schema.names == names
    made = found.batch.slice(3999, 2).to_pylist()
    kinds = {name: found.batch.schema.field(name).metadata == records.JSON_FIELD for name in names}
    for row, source in zip(made, (first, later), strict=True):
        for name, value in source.items():
            got = orjson.loads(row[name]) if kinds[name] and row[name] is not None else row[name]
            assert (value.items() <= got.items()) if isinstance(value, dict) else (got == value)


@pytest.mark.parametrize("brackets", [1999, 2000, 2001])
def test_brackets_are_counted_in_each_line(brackets):
    line = orjson.dumps({"text": "[{" * (brackets // 2) + "[" * (brackets % 2 - 1)})
    found = list(records.records_of_lines(b"\n".join([line] * 50)))
    assert [(each.batch.num_rows, each.refused) for each in found] == [(50, ())]


def test_a_line_nested_too_deeply_is_a_reject_and_its_neighbours_are_rows():
    deep = b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    found = list(records.records_of_lines(b"\n".join([b'{"a": [1]}', deep, b'{"a": [2]}'])))
    assert [r.batch.num_rows for r in found] == [2]
    assert found[0].refused == ((1, "nested too deeply"),)


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"])
def test_bytes_that_are_not_utf8_are_seen(bad):
    whole = '{"a": "é€🐟"}'.encode()
    found = list(records.records_of_lines(b"\n".join([whole, b'{"a": "' + bad + b'"}', whole])))
    print(found)
    assert [number for each in found for number, _ in each.refused] == [1]
