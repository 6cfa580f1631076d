"""Finds columns that name media files which are not in the source."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa

from choline_data.adapters.base import Shard, Source, SourceChunk
from choline_data.adapters.mapping import Mapping
from choline_data.adapters.mapping.extra import values_of
from choline_data.adapters.reading.media import column_for
from choline_data.adapters.reading.names import parts
from choline_data.catalog.warned import SourceWarning
from choline_data.errors import ChoiceNeededError, one_line
from choline_data.places.locations import local_path

_MEDIA_KINDS = frozenset({"image", "audio", "video"})
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_SHARE = 0.9
_LONGEST = 400
_Sample = tuple[Mapping, SourceChunk, Shard]


def absent_media(source: Source, samples: Sequence[_Sample], *, ask: bool) -> tuple[SourceWarning, ...]:
    """Returns a warning for each column that names media which are not in the source.

    Raises ChoiceNeededError if such a column would be the media of the samples and `ask` is set.
    """
    names = {parts(file.name)[-1] for file in source.files}
    warnings_by_file: dict[tuple[str, str], SourceWarning] = {}
    for mapping, chunk, shard in samples:
        for column, name in _names_of_media(chunk, shard, names):
            medium = column_for(name)
            message = (
                f"{shard.origin}: the column {column!r} names {medium} files that the source does not hold, such as "
                f"{one_line(name, 80)}."
            )
            if ask and mapping.kind in _MEDIA_KINDS and ("media", column) in mapping.fields:
                raise ChoiceNeededError(
                    message,
                    remedy=f"Choose: --as {mapping.kind} (samples with the names alone) | --as tabular (rows of a table)",
                )
            warnings_by_file.setdefault(
                (shard.name, column), SourceWarning("ABSENT_MEDIA", message, "Add the folder that holds them, too.")
            )
    return tuple(warnings_by_file.values())


def _names_of_media(chunk: SourceChunk, shard: Shard, held: set[str]) -> Iterator[tuple[str, str]]:
    """Yields (column, a name) for columns of texts that are nearly all names of media files which do not exist."""
    folder = os.path.dirname(local_path(shard.path) or "")
    for at, field in enumerate(chunk.batch.schema):
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)) or field.metadata:
            continue
        values = [value for value in values_of(chunk.batch.column(at)) if value]
        names = [value for value in values if len(value) <= _LONGEST and "\n" not in value and column_for(value)]
        if not names or len(names) < _SHARE * len(values) or any(map(_ELSEWHERE.match, names)):
            continue
        if not any(parts(name)[-1] in held or os.path.exists(os.path.join(folder, name)) for name in names):
            yield field.name, str(names[0])
