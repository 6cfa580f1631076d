"""Helpers that read a file with an adapter, and return its chunks and its error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from choline_data.adapters.base import Adapter, Reject, Source, SourceChunk, SourceFile
from choline_data.adapters.contract import rows_of
from choline_data.errors import CholineDataError


@dataclass
class Outcome:
    """The chunks that an adapter yielded, and the error that it raised after them, if any."""

    chunks: list[SourceChunk] = field(default_factory=list)
    error: CholineDataError | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for _, row in rows_of(self.chunks)]

    @property
    def count(self) -> int:
        return sum(len(c.rows) for c in self.chunks)

    @property
    def rejects(self) -> list[Reject]:
        return [r for c in self.chunks for r in c.rejects]

    @property
    def types(self) -> dict[str, str]:
        return {f.name: str(f.type) for c in self.chunks for f in c.batch.schema}


@pytest.fixture
def source_file() -> Callable[..., SourceFile]:
    """A SourceFile of a local path."""
    return lambda path, name="": SourceFile(str(path), name or path.name, path.stat().st_size)


@pytest.fixture
def source(source_file: Callable[..., SourceFile]) -> Callable[..., Source]:
    """A source of local paths."""
    return lambda *paths: Source("here", tuple(source_file(path) for path in paths))


@pytest.fixture
def read(source_file: Callable[..., SourceFile]) -> Callable[..., Outcome]:
    """Reads a path with an adapter until its end or an error."""

    def reading(adapter: Adapter, path: Path, name: str = "") -> Outcome:
        found = Outcome()
        try:
            for shard in adapter.shards([source_file(path, name)]):
                for chunk in adapter.read(shard):
                    found.chunks.append(chunk)
        except CholineDataError as error:
            found.error = error
        return found

    return reading


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Writes a small file for the test."""

    def writing(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return writing
