"""Finds the split of each file of a source. This is the only place that does so; adapters read `SourceFile.split`.

The rules are those of the `datasets` library: names like `data/NAME-00000-of-00004.parquet`, then words in the names of
folders, then words in the names of files. Where `datasets` would train on test rows or drop rows without a word, the rules
differ:

- Upper and lower case do not matter (`Test.csv`), and more words are known (`heldout`, `testset`, `split=test`).
- If no file is for training, the files without a word are for training (`data.csv` beside `test.csv`).
- A file that no folder assigns is assigned by its own name (`train/a.csv` beside `test.csv`).
- A file has one split. `datasets` reads a file with two words twice; here it is a question.

Media and texts are one sample each, and their names are free: `the-test-of-time.txt` is a book. A word in such a name counts
only if most of the files have one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceFile
from choline_data.adapters.reading import media
from choline_data.adapters.reading.io import extension
from choline_data.adapters.reading.names import equal_folders, is_about, parts
from choline_data.adapters.reading.split_words import split_named, splits_in
from choline_data.errors import ChoiceNeededError, InvalidOptionError

NO_SPLIT = "-"  # the mark of a file whose name has no split, if other files have the word for training in their names
UNCLEAR = "?"  # the mark of a file whose name has no split, if only a few names have one

_SHARD = re.compile(r"^data/(?P<split>\w+(?:\.\w+)*)-[0-9]{5}-of-[0-9]{5}[^/]*\.[^/]*$")
_NUMBERED = re.compile(r"[-._]?\d+([-._]of[-._]\d+)?$")
_TABLES = re.compile(
    r"parquet|geoparquet|arrow|feather|ipc|jsonl|ndjson|jsonlines|ldjson|geojsonl|geojsons|json|geojson|csv|tsv|tab|psv|ssv|tfrecords?|avro"
    r"|orc|db|sqlite3?|duckdb|warc|conllu?|mds|bin|lance|h5|hdf5|npy|npz|mat|xlsx?|ods|dta|sav"
)
_IDX = re.compile(r"idx[13][-._]ubyte", re.IGNORECASE)  # train-images-idx3-ubyte, t10k-labels-idx1-ubyte
_ARCHIVES = frozenset(["zip", "tar", "tgz", "wds", "7z", "rar"])


@dataclass(frozen=True)
class SplitBy:
    """What decides a row's split (or config): the names of files (`""`), or what the user said.

    `how` is "names", "none", "file" (each file is its own), "table" (each table of a file is its own), "folder" (the folder at
    `level`, counted from 1, or from the end if it is negative) or "column".
    """

    how: str = "names"
    level: int = 0
    column: str = ""


def split_by(text: str, option: str = "--split-by") -> SplitBy:
    """Parses the value of `--split-by` or `--config-by`: "none", "file", "folder:N", "column:NAME" or a column's name.

    `--config-by` also takes "table".
    """
    kind, colon, rest = text.partition(":")
    if text == "table" and option == "--config-by":
        return SplitBy(text)
    if text in ("none", "file"):
        return SplitBy(text)
    if kind == "folder" and (colon or not rest):
        if not re.fullmatch(r"-?[1-9][0-9]?", rest):
            raise InvalidOptionError(
                f"{option} {text!r}: {rest!r} is no level.", remedy=f"{option} folder:1 is the topmost folder."
            )
        return SplitBy("folder", level=int(rest))
    column = rest if kind == "column" and colon else text
    return SplitBy("column", column=column) if column else SplitBy()


def marked(files: Iterable[SourceFile], by: SplitBy, config_by: SplitBy) -> tuple[SourceFile, ...]:
    """Returns the files with their splits and configs, as `by` and `config_by` decide them. A split that a file already
    has is kept.
    """
    files = tuple(files)
    splits = {f.name: f.split for f in files}
    if by.how == "names":
        splits = splits_of([f for f in files if not f.split])
    elif by.how != "column":
        splits = {f.name: _stated(f.name, by) for f in files}
    return tuple(
        _with_parts(
            f,
            (splits.get(f.name, f.split) or f.split) if by.how != "none" else "",
            _stated(f.name, config_by) or f.config,
        )
        for f in files
    )


def _with_parts(file: SourceFile, split: str, config: str) -> SourceFile:
    """Returns the file with this split and config. Most files have them already, and a copy of each would take long."""
    same = file.split == split and file.config == config
    return file if same else replace(file, split=split, config=config)


def marked_source(source: Source) -> Source:
    """Returns the source with the splits and configs of its files, as the options `split_by` and `config_by` decide
    them.
    """
    by = split_by(source.options.get("split_by", ""))
    config_by = split_by(source.options.get("config_by", ""), "--config-by")
    return replace(source, files=marked(source.files, by, config_by))


def described(source: Source) -> Source:
    """Returns the source for a layout whose descriptor names its files: no file is left out because its name has no split."""
    files = (replace(f, split="") if f.split in (NO_SPLIT, UNCLEAR) else f for f in source.files)
    return replace(source, files=tuple(files))


def _stated(name: str, by: SplitBy) -> str:
    if by.how not in ("file", "folder"):
        return ""
    *folders, last = parts(name)
    if by.how == "file":
        stem = _NUMBERED.sub("", last.split(".")[0]) or last.split(".")[0]
    else:
        at = by.level - 1 if by.level > 0 else by.level
        stem = folders[at] if -len(folders) <= at < len(folders) else ""
    return split_called(stem)


def split_called(word: str) -> str:
    """Returns the split that a user's word means: `dev` means validation. Characters that have a meaning in mixes
    become "_".
    """
    return split_named(word) or re.sub(r"[^\w.-]+", "_", word)


def splits_of(files: Sequence[SourceFile]) -> dict[str, str]:
    """Returns the split of each file by its name, or "" if the name contains no split.

    Decides for all files of one sort together.
    """
    sorts: dict[str, list[str]] = {}
    for file in files:
        if not is_about(file.name):
            sorts.setdefault(_sort_of(file.name), []).append(file.name)
    splits: dict[str, str] = {}
    for sort, names in sorts.items():
        free = sort not in ("table", "archive")
        splits |= _settled(_named(names, free=free), free=free)
    return splits


def _sort_of(name: str) -> str:
    if medium := media.column_for(name):
        return medium
    last = extension(name)
    if last in _ARCHIVES:
        return "archive"
    return "table" if _TABLES.fullmatch(last) or _IDX.search(name) else f"text {last}"


def _named(names: Sequence[str], *, free: bool) -> dict[str, str]:
    """Returns the split that each name contains: "" for none, and "test+train" for two."""
    shards = {name: match["split"] for name in names if (match := _SHARD.match(name))}
    divided = {name: parts(name) for name in names}
    shared = equal_folders([folders_of_name[:-1] for folders_of_name in divided.values()])
    below = {name: tuple(folders_of_name[shared:-1]) for name, folders_of_name in divided.items()}
    split_of = {folders_of_name: _of_folders(folders_of_name) for folders_of_name in set(below.values())}
    folders = {name: split_of[folders_of_name] for name, folders_of_name in below.items()}
    bases = {name: _of_base(folders_of_name[-1], free=free) for name, folders_of_name in divided.items()}
    first, second = folders, bases
    if len(set(folders.values()) - {""}) < 2 <= len(set(bases.values()) - {""}):
        first, second = bases, folders
    above = _of_folders(parts(names[0])[:shared])
    by_name = {name: shards.get(name) or first[name] or second[name] for name in names}
    return by_name if any(by_name.values()) else dict.fromkeys(names, above)


def _of_folders(folders: Sequence[str]) -> str:
    """Returns the split of the topmost folder that is named like a split, else of the topmost folder whose name contains one."""
    exact = next(filter(None, map(split_named, folders)), "")
    return exact or next(("+".join(splits) for folder in folders if (splits := splits_in(folder))), "")


def _of_base(base: str, *, free: bool) -> str:
    splits = splits_in(base)
    return "" if free and len(splits) > 1 else "+".join(splits)


def _settled(named: dict[str, str], *, free: bool) -> dict[str, str]:
    """Returns `named` with a value for each file name: its split, or a mark that it has none. `free` says that people chose the
    names freely, as they do for pictures and texts.
    """
    without = [name for name, split in named.items() if not split]
    some = set(named.values()) - {""}
    if not some or not without:
        return named
    few = len(without) * (3 if free else 2) > len(named)
    if free and (few or "train" not in some):
        named = {name: _exact(name, base=not few) for name in named}
        some = set(named.values()) - {""}
        if not some:
            return named
    if "train" not in some:
        return named
    rest = UNCLEAR if few else NO_SPLIT
    return {name: split or rest for name, split in named.items()}


def _exact(name: str, *, base: bool) -> str:
    """Returns the split of a folder (with `base`, of a file) if its name has no other word."""
    *folders, last = parts(name)
    return next(filter(None, map(split_named, [*folders, last.split(".")[0] if base else ""])), "")


def settled(shards: Sequence[Shard], files: Sequence[SourceFile], by: SplitBy) -> tuple[list[Shard], dict[str, str]]:
    """Returns the shards with splits and configs, and the files that are left out, with the reason.

    A shard without a split gets that of its file. If the shard is a table of the file (`member`), it gets that of the
    table. ChoiceNeededError if names leave open which rows are for training.
    """
    by_path = {f.path: f for f in files}
    members = [f"{s.name}!/{s.member}" for s in shards if s.member]
    tables = _named(members, free=True) if members and by.how == "names" else {}
    with_splits: list[Shard] = []
    out: dict[str, str] = {}
    for shard in shards:
        file = by_path.get(shard.path, SourceFile(shard.path, shard.name, split=shard.split))
        split = shard.split or file.split or tables.get(f"{shard.name}!/{shard.member}", "")
        if by.how != "names":
            split = file.split  # the user's word counts more than the layout's
        if split == NO_SPLIT:
            out |= dict.fromkeys([f.name for f in shard.files if f.split == NO_SPLIT] or [shard.name], WHY_NO_SPLIT)
            continue
        config = shard.config or file.config
        same = shard.split == split and shard.config == config
        with_splits.append(shard if same else replace(shard, split=split, config=config))
    _refuse_unclear(with_splits)
    return with_splits, out


WHY_NO_SPLIT = "its name has no split, but names beside it have one; --split-by file reads it as a split of its own"
_ANSWERS = (
    "--split-by file makes a split of each file, --split-by folder:1 of each folder, --split-by COLUMN goes by a column, "
    "--split-by none keeps all rows together."
)


def leaving_out(claim: FormatClaim, reasons: Mapping[str, str]) -> FormatClaim:
    """Returns the claim without these files, which are left out for these reasons. Files that are joined to others stay."""
    joined = dict(claim.joined)
    left_out = {f.name: reasons[f.name] for f in claim.files if f.name in reasons and f.name not in joined}
    files = tuple(f for f in claim.files if f.name not in left_out)
    return replace(claim, files=files, passed_over=(*claim.passed_over, *left_out.items()))


def with_training(shards: Sequence[Shard]) -> list[Shard]:
    """Returns the shards of a source. If a config has splits, but none for training, its shards without a split become
    the training split.
    """
    splits: dict[str, set[str]] = {}
    for shard in shards:
        splits.setdefault(shard.config, set()).add(shard.split)
    lacking = {config for config, its_splits in splits.items() if len(its_splits) > 1 and "train" not in its_splits}
    return [replace(s, split="train") if not s.split and s.config in lacking else s for s in shards]


def _refuse_unclear(shards: Sequence[Shard]) -> None:
    two = next((s for s in shards if "+" in s.split), None)
    if two is not None:
        splits = " and ".join(two.split.split("+"))
        raise ChoiceNeededError(f"{two.name}: its name contains the words of two splits, {splits}.", remedy=_ANSWERS)
    unclear = [s.name for s in shards if s.split == UNCLEAR]
    if unclear:
        raise ChoiceNeededError(
            f"{', '.join(unclear[:3])}{' …' * (len(unclear) > 3)}: {len(unclear)} names have no split, but a few others have.",
            remedy=_ANSWERS,
        )


def counted(shards: Iterable[Shard]) -> dict[tuple[str, str], tuple[int, int]]:
    """Returns the number of files and of bytes of each (config, split), in the order of the shards."""
    files: dict[tuple[str, str], set[str]] = {}
    size: Counter[tuple[str, str]] = Counter()
    for shard in shards:
        key = (shard.config, shard.split)
        files.setdefault(key, set()).update([f.path for f in shard.files] or [shard.path + "!" + shard.member])
        size[key] += max(shard.size, 0)
    return {key: (len(names), size[key]) for key, names in files.items()}
