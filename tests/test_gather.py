"""Picking rows of many arrays gives what Arrow's own `take` gives, as an array and, byte for byte, as Arrow's message of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data.columns.gather import Piece, assemble, node_of
from choline_data.columns.parts import ArrowParts
from choline_data.schema import LABEL, MEDIUM, ORIGIN, TURN

texts = st.none() | st.text(max_size=40)
VALUES = {
    pa.large_string(): texts,
    pa.string(): texts,
    pa.large_binary(): st.none() | st.binary(max_size=40),
    pa.int64(): st.none() | st.integers(-(2**63), 2**63 - 1),
    pa.bool_(): st.none() | st.booleans(),
    pa.timestamp("us", tz="UTC"): st.none() | st.integers(0, 2**50),
    pa.binary(16): st.none() | st.binary(min_size=16, max_size=16),
    pa.list_(TURN): st.none()
    | st.lists(st.none() | st.fixed_dictionaries({"role": texts, "content": texts}), max_size=4),
    pa.list_(LABEL): st.none()
    | st.lists(
        st.fixed_dictionaries({"name": texts, "value": texts, "score": st.none() | st.floats(allow_nan=False)}),
        max_size=3,
    ),
    pa.list_(MEDIUM): st.none()
    | st.lists(
        st.fixed_dictionaries(
            {"mime": texts, "data": st.none() | st.binary(max_size=30), "width": st.none() | st.just(3)}
        ),
        max_size=2,
    ),
    ORIGIN: st.none() | st.fixed_dictionaries({"file": texts, "row": st.none() | st.integers(0, 2**40)}),
}


@pytest.mark.parametrize("kind", VALUES, ids=str)
@given(data=st.data())
def test_rows_of_several_sources_come_out_where_they_were_put(kind, data):
    sources = [
        [data.draw(st.lists(VALUES[kind], min_size=1, max_size=6)) for _ in range(data.draw(st.integers(1, 3)))]
        for _ in range(data.draw(st.integers(1, 3)))
    ]
    nodes, flats = [], []
    for parts in sources:
        arrays = [pa.array([None, *part, None], kind).slice(1, len(part)) for part in parts]
        nodes.append(node_of(kind, ArrowParts(kind, arrays)))
        flats.append([value for array in arrays for value in array.to_pylist()])
    count = data.draw(st.integers(1, 12))
    chosen = [data.draw(st.integers(0, len(nodes) - 1)) for _ in range(count)]
    rows = [data.draw(st.integers(0, len(flats[source]) - 1)) for source in chosen]
    pieces = []
    for source, node in enumerate(nodes):
        places = np.array([i for i in range(count) if chosen[i] == source], np.int64)
        if len(places):
            pieces.append(Piece(node, np.array([rows[i] for i in places], np.int64), places))
    column = assemble(kind, pieces, count)
    got = column.to_arrow()
    got.validate(full=True)
    assert got.to_pylist() == [flats[source][row] for source, row in zip(chosen, rows, strict=True)]
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    part = column.part(start, stop)
    assert part.to_arrow().to_pylist() == got.to_pylist()[start:stop]
    assert part.to_views().to_pylist() == got.to_pylist()[start:stop]
    alone = pa.record_batch([pa.concat_arrays([got.slice(start, stop - start), got.slice(0, 0)])], names=["c"])
    assert pa.record_batch([part.to_arrow()], names=["c"]).serialize() == alone.serialize()


def test_values_that_lie_in_a_mapped_file_are_read_through_it():
    whole = pa.array(["a long value that is not inlined", "b" * 50, "short"] * 3, pa.large_string())
    mapped = whole.buffers()[2]
    node = node_of(pa.large_string(), ArrowParts(pa.large_string(), [whole.slice(3, 3), whole.slice(0, 2)], [mapped]))
    assert len(node.bases) == 1 and node.bases[0] is mapped
    rows = np.array([4, 2, 0, 3], np.int64)
    got = assemble(pa.large_string(), [Piece(node, rows, np.arange(4))], 4).to_arrow()
    assert got.to_pylist() == [
        "b" * 50,
        "short",
        "a long value that is not inlined",
        "a long value that is not inlined",
    ]
