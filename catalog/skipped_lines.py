"""Warns about lines above the rows of a CSV that are neither the header nor a comment, such as
`150,4,setosa,versicolor`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from choline_data.adapters.base import Adapter, Shard
from choline_data.adapters.reading import io
from choline_data.adapters.reading.text_files import encoding_of
from choline_data.catalog.warned import SourceWarning
from choline_data.errors import one_line

if TYPE_CHECKING:  # Imported here, so that pyarrow.csv is loaded only if a CSV is read.
    from choline_data.adapters.csv_table import Delimited

_FILES = 8


def warnings_of_skipped_lines(shards: Iterable[tuple[Adapter, Shard]]) -> tuple[SourceWarning, ...]:
    """Returns a warning for each of the first CSV files in which a line is skipped."""
    tables = {s.name: (cast("Delimited", a), s) for a, s in shards if type(a).__name__ == "Delimited"}
    warnings_of_files = (_skipped(adapter, shard) for adapter, shard in list(tables.values())[:_FILES])
    return tuple(warning for warning in warnings_of_files if warning is not None)


def _skipped(adapter: Delimited, shard: Shard) -> SourceWarning | None:
    encoding = shard.encoding or encoding_of(shard.path, shard.name, adapter.encoding)
    dialect = adapter.dialect(shard.path, shard.name, encoding)
    above = dialect.skip - dialect.header
    if above < 1:
        return None
    lines = io.head(shard.path).decode(encoding, "replace").splitlines()[:above]
    lost = [line for line in lines if line.strip() and not line.lstrip('\ufeff"').startswith(("#", "sep="))]
    if not lost:
        return None
    message = (
        f"{shard.name}: {len(lost)} lines above the rows are no rows, and are skipped: {one_line(lost[0], 120)!r}."
    )
    return SourceWarning("SKIPPED_LINES", message, "Remove them, or make a header of them.")
