"""Lists that decide the splits of media: `testing_list.txt`, `ImageSets/Main/val.txt`, `trainlist01.txt`, `an4_test.fileids`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading import members
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.media_paths import path_of
from choline_data.adapters.reading.names import parts
from choline_data.adapters.reading.split_words import splits_in
from choline_data.adapters.reading.splits import NO_SPLIT
from choline_data.errors import ChoiceNeededError

MAX_LIST_BYTES = 256 << 20
_LIST = re.compile(r"(?<=[a-z])(?=(?:list|images|files))", re.IGNORECASE)
_BOTH = re.compile(r"^train(?:ing)?(?:_?and_?)?val(?:idation)?\d*$", re.IGNORECASE)

Path = tuple[str, ...]


@dataclass
class _Lists:
    """The lists of one folder that have the same number in their names. `splits` has the split of each path in the
    lists.
    """

    names: list[str] = field(default_factory=list)
    splits: dict[Path, str] = field(default_factory=dict)
    twice: bool = False


def split_of_list(name: str) -> str:
    """Returns the split that the name of a list states: "train" for `trainlist01.txt` and for `trainval.txt`; else ""."""
    stem = _stem(name)
    if _BOTH.match(stem):
        return "train"
    found = splits_in(_LIST.sub("_", stem))
    return found[0] if len(found) == 1 else ""


def _stem(name: str) -> str:
    last = parts(name)[-1]
    return last.rpartition(".")[0] or last


def in_lists(media: Sequence[SourceFile], lists: Iterable[SourceFile]) -> list[SourceFile]:
    """Gives each medium the split of the list that names it.

    If there is a list for training, media that no list names have no split and are left out; otherwise they are for training.
    Raises ChoiceNeededError if several sets of lists, such as three folds, divide the media in different ways.
    """
    stems: defaultdict[str, list[Path]] = defaultdict(list)
    for medium in media:
        path = path_of("/".join(parts(medium.name)))
        stems[path[-1]].append(path)
    groups: defaultdict[tuple[str, ...], _Lists] = defaultdict(_Lists)
    read: list[tuple[bool, Path, str, str, list[Path]]] = []
    named = [(f, split) for f in lists if (split := split_of_list(f.name))]
    wholes = {parts(f.name)[-1] for f, split in named if _BOTH.match(_stem(f.name))}
    parted = any(split in ("train", "validation") and parts(f.name)[-1] not in wholes for f, split in named)
    for (file, data), (_, split) in zip(members.contents([f for f, _ in named], MAX_LIST_BYTES), named, strict=True):
        if parted and parts(file.name)[-1] in wholes:
            continue  # `trainval.txt` repeats `train.txt` and `val.txt`
        paths, numbered = _paths(decoded(data or b"", file.name)[0].splitlines(), stems)
        if paths:
            number = "".join(re.findall(r"\d+", parts(file.name)[-1]))
            read.append((numbered, (*parts(file.name)[:-1], number), file.name, split, paths))
    plain = {(group, split) for numbered, group, _, split, _ in read if not numbered}
    for numbered, group, name, split, paths in read:
        if not (numbered and (group, split) in plain):  # `cat_train.txt` repeats `train.txt`, with a class
            _add(groups[group], name, split, paths)
    best = _chosen(list(groups.values()))
    if best is None or (len(set(best.splits.values())) == 1 and len(best.splits) >= len(media)):
        return list(media)  # a list that names all media does not divide them
    rest = NO_SPLIT if "train" in best.splits.values() else "train"
    return [replace(medium, split=_split(best, path_of("/".join(parts(medium.name))), rest)) for medium in media]


def _paths(lines: Sequence[str], stems: dict[str, list[Path]]) -> tuple[list[Path], bool]:
    """Returns the paths in a list, if most of its lines name a medium, and whether numbers stand behind the paths."""
    found, numbered = [], False
    rows = [line.strip() for line in lines if line.strip()]
    for line in rows:
        path = next((p for p in (path_of(line), path_of(line.split()[0])) if p and p[-1] in stems), None)
        rest = line.split()[1:] if path and path != path_of(line) else []
        if path and all(re.fullmatch(r"-?\d+", word) for word in rest):
            found.append(path)
            numbered |= bool(rest)
    return (found if len(found) * 2 >= len(rows) else []), numbered


def _add(group: _Lists, name: str, split: str, paths: Sequence[Path]) -> None:
    group.names.append(name)
    for path in paths:
        group.twice |= group.splits.setdefault(path, split) != split


def _chosen(groups: list[_Lists]) -> _Lists | None:
    """Returns the lists that name the most media."""
    several = [group for group in groups if len(set(group.splits.values())) > 1] or groups
    if not several:
        return None
    most = max(len(group.splits) for group in several)
    best = [group for group in several if len(group.splits) == most]
    unlike = next((group for group in best[1:] if group.splits != best[0].splits), None)
    if best[0].twice:
        raise ChoiceNeededError(
            f"{', '.join(best[0].names[:4])}: a medium is in the lists of two splits.",
            remedy="Leave out the lists that do not count, for example --exclude NAME.",
        )
    if unlike is not None:
        raise ChoiceNeededError(
            f"{best[0].names[0]} and {unlike.names[0]} are lists of different splits of the same media.",
            remedy=f"Keep one set of lists: {' '.join(f'--exclude {parts(n)[-1]!r}' for n in unlike.names)}",
        )
    return best[0]


def _split(lists: _Lists, path: Path, rest: str) -> str:
    return next((lists.splits[path[at:]] for at in range(len(path)) if path[at:] in lists.splits), rest)
