"""Compressed files: a whole file gives the original bytes, and a file that is cut anywhere is an error, never a short
result.
"""

from __future__ import annotations

import bz2
import gzip
import lzma

import pyarrow as pa
import pytest

from choline_data.adapters.reading import io
from choline_data.errors import SourceDamagedError

PLAIN = b"".join(b'{"text": "line %d"}\n' % number for number in range(2000))
PACKED = {
    "gzip": gzip.compress(PLAIN, mtime=0),
    "bz2": bz2.compress(PLAIN),
    "xz": lzma.compress(PLAIN),
    "zstd": pa.Codec("zstd").compress(PLAIN, asbytes=True),
    "lz4": pa.Codec("lz4").compress(PLAIN, asbytes=True),
}


def content(path) -> bytes:
    return b"".join(io.pieces(str(path)))


@pytest.fixture(params=list(PACKED))
def packed(request) -> bytes:
    if request.param == "lz4":
        pytest.importorskip("lz4.frame")
    return PACKED[request.param]


def test_what_was_packed_comes_back_and_two_streams_are_one_file(write, packed):
    assert content(write("one", packed)) == PLAIN
    assert content(write("two", packed + packed)) == PLAIN + PLAIN


def test_a_stream_that_is_cut_anywhere_is_damage(write, packed):
    for end in (8, 20, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        with pytest.raises(SourceDamagedError, match=r"cut\.packed"):
            content(write("cut.packed", packed[:end]))


def test_a_cut_gzip_names_the_byte(write):
    with pytest.raises(SourceDamagedError, match="truncated, at byte 100"):
        content(write("a.gz", PACKED["gzip"][:100]))
