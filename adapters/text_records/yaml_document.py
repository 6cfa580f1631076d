"""Reads YAML: finds the rows as in a JSON document. If a file has several documents, each of them is a row.

Only plain data are read; tags, repeated keys and aliases that grow without bound are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.json_document import rows_of
from choline_data.adapters.text_records.line_records import claim_all, lines_of, rows_in_chunks, shards_of
from choline_data.errors import SourceFormatError
from choline_data.places.yaml_safe import safe_load_all


@dataclass(frozen=True)
class YamlDocument:
    """Reads YAML files."""

    encoding: str = ""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each file."""
        return shards_of(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the rows of the file from row `start` on."""
        return rows_in_chunks(_rows(shard, self.encoding), shard, start)


ADAPTER = YamlDocument


def _rows(shard: Shard, encoding: str) -> list[Any]:
    documents = list(safe_load_all("\n".join(lines_of(shard, encoding)), shard.name))
    if documents and not any(isinstance(document, (dict, list)) for document in documents):
        raise SourceFormatError(
            f"{shard.name} is a single text as YAML, without a mapping or a list.",
            remedy="`--format text` reads it as text.",
        )
    if len(documents) == 1:
        return rows_of(documents[0]) if documents[0] is not None else []
    return [document if isinstance(document, dict) else {"value": document} for document in documents]


def detect(source: Source) -> list[FormatClaim]:
    """Claims the YAML files."""
    return claim_all(source, YamlDocument(), "YAML documents")
