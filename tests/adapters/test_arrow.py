"""Arrow IPC: files, streams, Feather, and files with false lengths."""

import pyarrow as pa
import pyarrow.feather
import pytest

from choline_data.adapters import arrow
from choline_data.adapters.arrow import ArrowFile
from choline_data.adapters.contract import AdapterContract
from choline_data.errors import SourceDamagedError, SourceTooLargeError

TABLE = pa.table({"n": range(9000), "text": [f"row {n % 5}" for n in range(9000)]})


def stored(path, table, *, stream=False, compression=None):
    make = pa.ipc.new_stream if stream else pa.ipc.new_file
    with make(str(path), table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table, max_chunksize=1000)
    return path


class TestContract(AdapterContract):
    reads_gz = False

    @pytest.fixture
    def adapter(self):
        return ArrowFile()

    @pytest.fixture
    def files(self, tmp_path, source_file):
        categories = TABLE.set_column(1, "text", TABLE["text"].dictionary_encode())
        pyarrow.feather.write_feather(TABLE, tmp_path / "c.feather")
        return [
            source_file(stored(tmp_path / "a.arrow", TABLE, compression="zstd")),
            source_file(stored(tmp_path / "b.arrows", categories, stream=True)),
            source_file(tmp_path / "c.feather"),
        ]


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_file_gives_its_whole_batches_and_then_the_error(read, tmp_path, stream):
    path = stored(tmp_path / "a.arrow", TABLE, stream=stream)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = read(ArrowFile(), path)
    assert isinstance(found.error, SourceDamagedError)
    assert 2000 < found.count < 9000
    assert found.count % 1000 == 0


def test_a_compressed_batch_is_measured_before_it_is_decoded(read, tmp_path):
    table = pa.table({"zeros": pa.array([0] * 1_000_000)})
    found = read(ArrowFile(max_batch_bytes=1000), stored(tmp_path / "a.arrows", table, stream=True, compression="zstd"))
    assert isinstance(found.error, SourceTooLargeError)
    assert "max_batch_bytes" in str(found.error)


def test_it_is_known_by_content_whatever_its_name(tmp_path, source, write):
    file = stored(tmp_path / "a.bin", TABLE)
    stream = stored(tmp_path / "b", TABLE, stream=True)
    (claim,) = arrow.detect(source(file, stream, write("c.txt", "text")))
    assert [f.name for f in claim.files] == ["a.bin", "b"]


@pytest.mark.parametrize("change", ["no prefix", "no prefix and no footer", "no prefix and a cut batch"])
def test_a_file_without_the_prefix_of_its_schema_is_read_by_its_footer(tmp_path, read, change):
    path = stored(tmp_path / "a.arrow", TABLE)
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[12:16], "little")
    data[8 : 16 + length] = data[16 : 16 + length] + bytes(8)  # as Polars writes it
    if change.endswith("footer"):
        data[-6:] = b"ARROWX"
    if change.endswith("batch"):
        at = data.index(b"\xff\xff\xff\xff", 16 + length)
        data[at + 4 : at + 8] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(data)
    found = read(ArrowFile(), path)
    if change == "no prefix":
        assert found.error is None
        assert [row["n"] for row in found.rows] == list(range(9000))
    else:
        assert isinstance(found.error, SourceDamagedError)
