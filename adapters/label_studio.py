"""Reads Label Studio exports: JSON arrays of tasks, one sample for each task. Label configurations are skipped."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading.documents import chunks_of, document, json_files, one_shard_each
from choline_data.adapters.reading.io import head
from choline_data.errors import CholineDataError, SourceFormatError


@dataclass(frozen=True)
class LabelStudio:
    """Reads the tasks of an export with their data, annotations and predictions."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns a shard for each export."""
        return one_shard_each(files)

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the tasks from `start` on."""
        tasks = document(shard.path, shard.name)
        if not isinstance(tasks, list):
            raise SourceFormatError(f"{shard.name}: not a list of tasks.", remedy="Export as JSON from Label Studio.")
        return chunks_of(tasks, shard.origin, start=start)


ADAPTER = LabelStudio


def detect(source: Source) -> list[FormatClaim]:
    """Returns one claim for all exports of the source."""
    files = tuple(f for f, value in json_files(source, r'"(?:annotations|completions)"\s*:') if _is_export(value))
    if not files:
        return []
    configs = [f for f in source.files if f.name.endswith(".xml") and _is_config(f)]
    configs += [f for f, value in json_files(source, r'"to_name"\s*:') if _is_parsed_config(value)]
    over = tuple((f.name, "a label configuration") for f in configs)
    return [
        FormatClaim(LabelStudio(), files, 1.0, "tasks with annotations[].result", kind="annotation", described=over)
    ]


def _is_export(value: Any) -> bool:
    tasks = value if isinstance(value, list) else []
    results = [a for t in tasks[:8] if isinstance(t, dict) for a in t.get("annotations", t.get("completions")) or []]
    return bool(results) and all(isinstance(a, dict) and "result" in a for a in results)


def _is_config(file: SourceFile) -> bool:
    try:
        return re.search(rb"<View[\s>]", head(file.path)) is not None
    except CholineDataError:
        return False


def _is_parsed_config(value: Any) -> bool:
    parts = list(value.values()) if isinstance(value, dict) else []
    return bool(parts) and all(isinstance(p, dict) and "to_name" in p and "type" in p for p in parts)
