"""Finds the media files that the values of a table name: by path, by the end of a path, or by the name without extension."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading.media import column_for, suffix_of
from choline_data.adapters.reading.media_paths import equal_items, path_of
from choline_data.adapters.reading.names import parts, shared_folders
from choline_data.adapters.reading.split_words import split_named, splits_in

Path = tuple[str, ...]


class MediaNames:
    """The media files of a source, by the name without extension. `table` is the name of the file that names them.

    A value names a file if the file has all folders of the value, or if the value has all folders that distinguish the file from
    the other media. A value without folders never names a file of another split than the table.
    """

    def __init__(self, files: Iterable[SourceFile], table: str) -> None:
        listed = list(files)
        self._files: dict[str, list[tuple[Path, SourceFile]]] = defaultdict(list)
        for file in listed:
            path = path_of("/".join(parts(file.name)))
            self._files[path[-1]].append((path, file))
        self._shared = shared_folders(listed)
        self._folders = tuple(part.lower() for part in parts(table)[:-1])
        self._splits = set(splits_in(parts(table)[-1].partition(".")[0])) or _splits_of(self._folders)

    def find(self, value: object) -> SourceFile | None:
        """Returns the file that a value names. None if there is none, or if several files fit equally well."""
        path = path_of(value) if isinstance(value, str) else path_of(str(value)) if type(value) is int else ()
        found = self._files.get(path[-1], []) if path else []
        if isinstance(value, str) and column_for(value) and len(found) > 1:
            # if there are `a.jpg` and `a.png`, the extension decides
            found = [pair for pair in found if suffix_of(pair[1].name) == suffix_of(value)] or found
        ranked = [(rank, file) for there, file in found if (rank := self._rank(path, there)) is not None]
        if not ranked:
            return None
        best = max(rank for rank, _ in ranked)
        files = [file for rank, file in ranked if rank == best]
        return files[0] if len(files) == 1 else None

    def _rank(self, stated: Path, path: Path) -> tuple[int, int, int] | None:
        """Returns how well a file fits: the number of equal items at the end of both paths, the number of folders
        shared with the table, and whether both names have the same split.

        Returns None if the file does not fit.
        """
        tail = equal_items(stated[::-1], path[::-1])
        if tail < len(stated) and tail < len(path) - self._shared:
            return None
        near = equal_items(self._folders, path)
        splits = _splits_of(path[:-1])
        if tail == 1 and splits and self._splits and not splits & self._splits:
            return None
        return tail, near, int(bool(splits & self._splits))


def _splits_of(folders: Path) -> set[str]:
    """Returns the splits that these folders name; else those whose words the names of the folders contain."""
    return set(filter(None, map(split_named, folders))) or {split for folder in folders for split in splits_in(folder)}
