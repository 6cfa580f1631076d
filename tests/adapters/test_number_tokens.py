"""JSON Lines keep integers and floats apart, also where Arrow's reader makes floats of both."""

import json

import duckdb
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data.adapters.mapping.extra import extra_json
from choline_data.adapters.mapping.mapped_columns import Look
from choline_data.adapters.reading import records

NUMBERS = st.one_of(
    st.integers(-5, 5), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.none()
)
VALUES = st.recursive(
    NUMBERS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xé"), inner)
)


def read(block: bytes) -> list[dict]:
    batches = [found.batch for found in records.records_of_lines(block)]
    return [json.loads(text) for batch in batches for text in extra_json(batch, batch.schema.names).to_pylist()]


def with_nulls(value, like):
    """The value with a null for each key that only `like` has: Arrow's structs have the keys of all rows."""
    if isinstance(value, dict) and isinstance(like, dict):
        return {key: with_nulls(value.get(key), like[key]) for key in like}
    if isinstance(value, list) and isinstance(like, list):
        return [with_nulls(*pair) for pair in zip(value, like, strict=True)]
    return value


@pytest.mark.parametrize(
    "values",
    [
        [1, 2.5],
        [1, 1.0],
        [1.0, 2.5],
        [123456789012, 0.5, None, -0.0],
        [[1, 2.5, None], []],
        [[[1, 2.5], [3]], [[4.25]]],
        [{"x": 1}, {"x": 2.5}],
        [[{"x": 1}, {"x": 1.5}]],
        [2**53 + 1, 0.5],
        [1e22, 5],
    ],
)
@pytest.mark.parametrize("name", ["x", "é", 'say "x": 1,'])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_numbers_come_back_as_they_were(values, name, ascii_only):
    rows = [{name: value, "text": f'{{"{name}": 7}}'} for value in values]
    block = "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in rows).encode()
    assert repr(read(block)) == repr(rows)


@given(st.lists(st.fixed_dictionaries({"x": VALUES, "y": VALUES}), min_size=1, max_size=6))
def test_random_numbers_come_back_as_they_were(rows):
    got = read("\n".join(map(json.dumps, rows)).encode())
    assert repr(got) == repr([with_nulls(row, like) for row, like in zip(rows, got, strict=True)])


def test_columns_of_numbers_stay_columns():
    block = b"".join(b'{"score": %s, "whole": %d.0}\n' % (b"1" if n % 2 else b"0.5", n) for n in range(1000))
    (found,) = records.records_of_lines(block)
    assert [str(kind) for kind in found.batch.schema.types] == ["double", "double"]
    assert Look([found.batch]).columns["score"].values[:2] == (0.5, 1)
    assert repr(read(block)[1]) == "{'score': 1, 'whole': 1.0}"


def test_files_of_other_writers(tmp_path):
    table = pd.DataFrame({"count": [1, 2, 3], "score": [1.0, 2.5, 3.0]})
    table.to_json(tmp_path / "pandas.jsonl", orient="records", lines=True)
    duckdb.from_df(table).query("t", f"COPY t TO '{tmp_path}/duckdb.jsonl' (FORMAT json)")
    for path in tmp_path.iterdir():
        assert repr(read(path.read_bytes())) == repr([json.loads(line) for line in path.read_bytes().splitlines()])
