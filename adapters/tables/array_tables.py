"""Finds the tables of a file of named arrays: which arrays are columns of one table, which groups are splits or episodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from choline_data.adapters.reading.split_words import split_named
from choline_data.errors import SourceFormatError, one_line

MANY = 8  # if at least this many groups or arrays are alike, they are not columns
_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class ArrayInfo:
    """An array of a file: its path, its shape and its type. `shape` is empty for a single value."""

    path: str
    shape: tuple[int, ...]
    type: str

    @property
    def length(self) -> int:
        """The number of rows: the length of the first axis."""
        return self.shape[0] if self.shape else 0


@dataclass(frozen=True)
class ArrayTable:
    """A table: the paths of its arrays by column. With `runs`, the paths start below each run, and the runs follow each other."""

    member: str
    columns: Mapping[str, str]
    split: str = ""
    runs: tuple[str, ...] = field(default=("",))

    @property
    def is_grouped(self) -> bool:
        """Whether the rows come from several groups. The names of the groups are then a column."""
        return self.runs != ("",)

    def paths(self, run: str) -> dict[str, str]:
        """Returns the path of each column in this run."""
        return {name: f"{run}/{path}" if run else path for name, path in self.columns.items()}


def tables_of(arrays: Sequence[ArrayInfo], where: str) -> list[ArrayTable]:
    """Returns the tables. Single values are left out. Raises SourceFormatError if the file has none."""
    rows = [a for a in arrays if a.shape]
    if not rows:
        raise SourceFormatError(f"{where} has no array of rows.", remedy="Check the file: h5ls -r FILE.")
    words = {a.path: _split_word(a.path) for a in rows}
    if not any(words.values()):
        return _solved("", rows, arrays, where)
    found: list[ArrayTable] = []
    for word in dict.fromkeys(words.values()):
        own = [a for a in rows if words[a.path] == word]
        if not word:
            tables = _solved("", own, arrays, where)
            found += [t if t.member else replace(t, member="+".join(list(t.columns)[:4])) for t in tables]
        elif len({a.length for a in own}) == 1 and not _has_episodes("", own):
            columns = {_without_word(a.path, word): a.path for a in own}
            found.append(ArrayTable(word, columns, split_named(word)))
        else:
            found += _solved(word, own, arrays, where) if _is_group(word, own) else [_differing(own, where)]
    return found


def _split_word(path: str) -> str:
    """Returns the part of a path that names a split: a group `train`, or a word of the name as in `train_set_x` or `x_test`."""
    parts = path.split("/")
    groups = [part for part in parts[:-1] if split_named(part)]
    if groups:
        return groups[0]
    words = parts[-1].split("_")
    return next((word for word in (words[0], words[-1]) if len(words) > 1 and split_named(word)), "")


def _without_word(path: str, word: str) -> str:
    parts = [part for part in path.split("/") if part != word]
    parts[-1] = parts[-1].removeprefix(word + "_").removesuffix("_" + word)
    return "/".join(parts)


def _is_group(word: str, arrays: Sequence[ArrayInfo]) -> bool:
    return all(a.path.startswith(word + "/") for a in arrays)


def _solved(prefix: str, rows: Sequence[ArrayInfo], every: Sequence[ArrayInfo], where: str) -> list[ArrayTable]:
    """Decides which of the arrays directly below a group are columns of one table. Returns the tables."""
    below = _below(prefix, rows)
    runs = _alike(below)
    if runs:
        return [_episodes(prefix, below, runs, every, where), *_rest(prefix, below, runs, every, where)]
    if len({a.length for a in rows}) == 1 and not _has_episodes(prefix, rows):
        columns = {a.path[len(prefix) + bool(prefix) :]: a.path for a in rows}
        _refuse_samples(rows, where)
        return [ArrayTable(prefix, columns, split_named(prefix))]
    return _rest(prefix, below, (), every, where)


def _rest(
    prefix: str, below: Mapping[str, list[ArrayInfo]], done: Sequence[str], every: Sequence[ArrayInfo], where: str
) -> list[ArrayTable]:
    tables: list[ArrayTable] = []
    direct: dict[int, list[ArrayInfo]] = {}
    for name, arrays in below.items():
        path = f"{prefix}/{name}" if prefix else name
        if name in done:
            continue
        if any(a.path != path for a in arrays):
            tables += _solved(path, arrays, every, where)
        else:
            direct.setdefault(arrays[0].length, []).append(arrays[0])
    for arrays in direct.values():
        _refuse_samples(arrays, where)
        names = [a.path.rsplit("/", 1)[-1] for a in arrays]
        tables.append(
            ArrayTable("+".join(a.path for a in arrays[:4]), dict(zip(names, (a.path for a in arrays), strict=True)))
        )
    return tables


def _below(prefix: str, rows: Sequence[ArrayInfo]) -> dict[str, list[ArrayInfo]]:
    """Returns the arrays by the name of the group or array directly below the prefix."""
    by_folder: dict[str, list[ArrayInfo]] = {}
    for a in rows:
        by_folder.setdefault(a.path[len(prefix) + bool(prefix) :].split("/", 1)[0], []).append(a)
    return by_folder


def _alike(below: Mapping[str, list[ArrayInfo]]) -> tuple[str, ...]:
    """Returns the names of groups that repeat the same arrays, in order of their numbers. Empty if they may be columns.

    Groups are episodes if their names are numbered, if there are many, or if their lengths differ.
    """
    groups: dict[tuple[tuple[str, tuple[int, ...], str], ...], list[str]] = {}
    for name, arrays in below.items():
        if (
            all("/" in a.path and a.path.rsplit("/", 1)[-1] != name for a in arrays)
            and len({a.length for a in arrays}) == 1
        ):
            key = tuple((a.path.split(name + "/", 1)[-1], a.shape[1:], _kind(a.type)) for a in arrays)
            groups.setdefault(key, []).append(name)
    for names in groups.values():
        lengths = {below[name][0].length for name in names}
        numbered = len({_DIGITS.sub("", name) for name in names}) == 1 and all(_DIGITS.search(name) for name in names)
        if numbered or len(names) >= MANY or len(lengths) > 1:
            return tuple(sorted(names, key=_in_numbers))
    return ()


def _has_episodes(prefix: str, rows: Sequence[ArrayInfo]) -> bool:
    below = _below(prefix, rows)
    paths = {name: f"{prefix}/{name}" if prefix else name for name in below}
    groups = [(paths[name], arrays) for name, arrays in below.items() if arrays[0].path != paths[name]]
    return bool(_alike(below)) or any(_has_episodes(path, arrays) for path, arrays in groups)


def _kind(kind: str) -> str:
    return "text" if kind in ("object",) or kind.startswith("|S") else kind


def _in_numbers(name: str) -> tuple[tuple[int, ...], str]:
    return tuple(int(number[:18]) for number in _DIGITS.findall(name)), name


def _episodes(
    prefix: str, below: Mapping[str, list[ArrayInfo]], runs: Sequence[str], every: Sequence[ArrayInfo], where: str
) -> ArrayTable:
    paths = [f"{prefix}/{name}" if prefix else name for name in runs]
    inside = tuple(f"{path}/" for path in paths)
    single = next((a.path for a in every if not a.shape and a.path.startswith(inside)), "")
    if single:
        raise SourceFormatError(
            f"{where}: {one_line(single, 80)} is a single value in a group of arrays, so each group may be one sample.",
            remedy="Convert it to Parquet, CSV or JSON Lines with h5py.",
        )
    columns = {a.path[len(inside[0]) :]: a.path[len(inside[0]) :] for a in below[runs[0]]}
    return ArrayTable(prefix, columns, split_named(prefix), tuple(paths))


def _refuse_samples(arrays: Sequence[ArrayInfo], where: str) -> None:
    """Refuses a file that seems to have one array for each sample: many arrays of several axes whose names differ only
    in numbers.
    """
    alike = {_DIGITS.sub("", a.path) for a in arrays}
    if len(arrays) >= MANY and len(alike) == 1 and all(len(a.shape) > 1 for a in arrays):
        raise SourceFormatError(
            f"{where} has {len(arrays):,} arrays such as {one_line(arrays[0].path, 60)!r}: each may be one sample.",
            remedy="Stack them along a first axis, and save them as one array.",
        )


def _differing(arrays: Sequence[ArrayInfo], where: str) -> ArrayTable:
    sizes = ", ".join(f"{a.path} {a.shape}" for a in arrays[:8])
    raise SourceFormatError(
        f"{where}: its arrays have different lengths, so they are not columns of one table: {one_line(sizes, 200)}.",
        remedy="Save the arrays that belong together in a file of their own.",
    )
