"""Finds the file that describes each medium: a file of the same name, in the same folder or in one beside it.

`images/a.jpg` and `labels/a.txt`, `wav48/p225/a.wav` and `txt/p225/a.txt`, `a.wav` and `a.TextGrid` are twins. A file has one
twin: the medium whose folders are most like its own. If several media fit equally well, or the file lies in another split than
the medium, it has none.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading.media_paths import equal_items, path_of
from choline_data.adapters.reading.names import parts
from choline_data.adapters.reading.split_words import split_named

_MICROPHONE = re.compile(r"_mic\d(?=\.\w+$|$)")
_LANGUAGE = re.compile(r"\.[a-z]{2,3}(?:[-_][a-z]{2,4})?$")


def twins_of(
    files: Iterable[SourceFile], media: Iterable[SourceFile], stem_of: Callable[[str], str]
) -> dict[str, list[SourceFile]]:
    """Returns the files that describe each medium, by the name of the medium.

    `stem_of` returns the stem, in lower case, of the medium that a file with this name describes, or "".
    """
    by_stem: dict[str, list[tuple[tuple[str, ...], SourceFile]]] = defaultdict(list)
    for medium in media:
        path = path_of("/".join(parts(medium.name)))
        by_stem[path[-1]].append((path[:-1], medium))
    found: defaultdict[tuple[str, str], list[tuple[tuple[int, int], SourceFile]]] = defaultdict(list)
    for file in files:
        stem = stem_of(file.name)
        near = by_stem.get(known_stem(stem, by_stem), [])
        folders = tuple(part.lower() for part in parts(file.name)[:-1])
        ranked = [(_likeness(folders, there), medium) for there, medium in near if not other_split(folders, there)]
        best = max((rank for rank, _ in ranked), default=None)
        twins = [medium for rank, medium in ranked if rank == best]
        if best is not None and len(twins) == 1:
            kind = parts(file.name)[-1].lower()[len(stem) :]
            found[twins[0].name, kind].append((best, file))
    kept: defaultdict[str, list[SourceFile]] = defaultdict(list)
    for (name, _), several in found.items():
        # If several files of one kind fit a medium, the file with the best rank is used, unless two share it.
        best = max(rank for rank, _ in several)
        nearest = [file for rank, file in several if rank == best]
        if len(nearest) == 1:
            kept[name] += nearest
    return dict(kept)


def of_one_text(clips: Iterable[SourceFile], stems: Container[str]) -> dict[str, list[SourceFile]]:
    """Returns the clips by the name without the number of the microphone: `a.flac` for `a_mic1.flac` and `a_mic2.flac` of VCTK.

    One text transcribes all clips of a group. Other clips, and those with a text of their own name, are alone. `stems` are
    the stems of the texts.
    """
    groups: defaultdict[str, list[SourceFile]] = defaultdict(list)
    for clip in clips:
        alone = path_of("/".join(parts(clip.name)))[-1] in stems
        groups[clip.name if alone else without_microphone(clip.name)].append(clip)
    return dict(groups)


def without_microphone(name: str) -> str:
    """Returns the name of a clip, or its stem, without the number of the microphone at its end."""
    return _MICROPHONE.sub("", name)


def known_stem(stem: str, known: Container[str]) -> str:
    """Returns the stem of the medium: `talk` of `talk.en`, if there is a medium `talk` and none `talk.en`."""
    return stem if stem in known else _LANGUAGE.sub("", stem)


def _likeness(folders: tuple[str, ...], others: tuple[str, ...]) -> tuple[int, int]:
    """Returns how similar two lists of folders are: how many folders are equal at the end of the lists, and how many at
    the beginning.
    """
    if folders == others:
        return len(folders) + 1, len(folders)
    return equal_items(folders[::-1], others[::-1]), equal_items(folders, others)


def other_split(folders: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Returns whether both lists of folders name a split, and the splits differ."""
    one, other = ({split for folder in its if (split := split_named(folder))} for its in (folders, others))
    return bool(one and other) and not one & other
