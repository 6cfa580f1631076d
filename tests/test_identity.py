"""An id is a digest of the content. Other rows of the batch do not change it."""

from __future__ import annotations

import pyarrow as pa
import xxhash

from choline_data.store.sample_ids import sample_ids


def test_a_row_of_a_table_has_the_digest_of_its_extra_whatever_is_beside_it():
    extra = pa.array(['{"a":1}', None, '{"a":2}'], pa.large_string())
    text = pa.array([None, "words", None], pa.large_string())
    wanted = [xxhash.xxh3_128_digest(row, 2) for row in (b'{"a":1}', b"", b'{"a":2}')]
    assert sample_ids(pa.record_batch({"extra": extra})).to_pylist() == wanted
    assert sample_ids(pa.record_batch({"extra": extra}).slice(1)).to_pylist() == wanted[1:]
    mixed = sample_ids(pa.record_batch({"text": text, "extra": extra})).to_pylist()
    assert mixed == [wanted[0], xxhash.xxh3_128_digest(b"words", 1), wanted[2]]
