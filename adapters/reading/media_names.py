"""Finds the media files that the values of a table name: by path, by the end of a path, or by the name without extension."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading.names import parts
from choline_data.adapters.reading.split_words import splits_in
from choline_data.adapters.reading.transcripts import path_of


class MediaNames:
    """The media files of a source, by the name without extension. `table` is the name of the file that names them."""

    def __init__(self, files: Iterable[SourceFile], table: str) -> None:
        self._files: dict[str, list[tuple[tuple[str, ...], SourceFile]]] = defaultdict(list)
        for file in files:
            path = path_of("/".join(parts(file.name)))
            self._files[path[-1]].append((path, file))
        self._folders = tuple(part.lower() for part in parts(table)[:-1])
        self._splits = splits_in(parts(table)[-1].partition(".")[0])

    def find(self, value: object) -> SourceFile | None:
        """Returns the file that a value names. None if there is none, or if several files fit equally well."""
        path = path_of(value) if isinstance(value, str) else path_of(str(value)) if type(value) is int else ()
        candidates = self._files.get(path[-1], []) if path else []
        if not candidates or len(candidates) == 1:
            return candidates[0][1] if candidates else None
        ranks = [self._rank(path, there) for there, _ in candidates]
        best = max(ranks)
        return candidates[ranks.index(best)][1] if ranks.count(best) == 1 else None

    def _rank(self, stated: tuple[str, ...], path: tuple[str, ...]) -> tuple[int, int, int]:
        """Returns a rank that says how well a file fits. Compares the ends of the paths, then the folders with those of
        the table, then the splits in the names.
        """
        tail = next((n for n, (a, b) in enumerate(zip(stated[::-1], path[::-1], strict=False)) if a != b), len(stated))
        near = next(
            (n for n, (a, b) in enumerate(zip(self._folders, path, strict=False)) if a != b), len(self._folders)
        )
        splits = {split for folder in path[:-1] for split in splits_in(folder)}
        return tail, near, int(bool(splits & set(self._splits)))
