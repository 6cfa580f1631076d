"""What an adapter of another package needs: the classes that it takes and returns, and functions that open and read files.

The functions take a path from `Shard.path` or `SourceFile.path`. This path can be a local file, a remote file (`s3://…`) or a
member of a ZIP or tar archive, and the file can be compressed with gzip, zstd, bz2, xz or lz4. So an adapter that opens its
files with these functions reads all of them. `open(shard.path)` reads only local files that are not compressed.

The names of this module stay when the modules behind them change.
"""

from choline_data.adapters.base import (
    BATCH_BYTES,
    BATCH_ROWS,
    MAX_ROW_BYTES,
    Adapter,
    FormatClaim,
    Reject,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
    chunk_of,
    foreign,
    from_row,
)
from choline_data.adapters.reading.io import content, extension, head, line_blocks, open_raw, pieces
from choline_data.adapters.reading.rows import SourceRows
from choline_data.adapters.tables.table_batches import batch_chunks, local_file
from choline_data.adapters.text_records.line_records import (
    TextRecord,
    lines_of,
    paragraphs,
    record_chunks,
    shards_of,
)
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError

__all__ = [
    "BATCH_BYTES",
    "BATCH_ROWS",
    "MAX_ROW_BYTES",
    "Adapter",
    "FormatClaim",
    "Reject",
    "Shard",
    "Source",
    "SourceChunk",
    "SourceDamagedError",
    "SourceFile",
    "SourceFormatError",
    "SourceRows",
    "SourceTooLargeError",
    "TextRecord",
    "batch_chunks",
    "chunk_of",
    "content",
    "extension",
    "foreign",
    "from_row",
    "head",
    "line_blocks",
    "lines_of",
    "local_file",
    "open_raw",
    "paragraphs",
    "pieces",
    "record_chunks",
    "shards_of",
]
