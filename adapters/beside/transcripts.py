"""Finds what files beside clips and pictures say about each of them: transcripts in lists, and texts of the same name.

A list has a line for each clip. Its form is found by trying: the form under which most lines name a clip is taken.

============================== =======================================================
`id text`, `id: text`           LibriSpeech (`*.trans.txt`), AISHELL, Kaldi (`text`)
`id|text|normalised text`       LJSpeech (`metadata.csv`)
`path|speaker|text`             lists for training of speech synthesis
`<s> text </s> (id)`            Sphinx
`( id "text" )`                 CMU Arctic, Festival
`path number`                   a list with classes (ImageNet, UCF101)
`name#0 text`                   several captions for each picture (Flickr8k)
`id`                            a list of clips (Sphinx, Speech Commands)
============================== =======================================================
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from choline_data.adapters.base import SourceFile
from choline_data.adapters.beside.aligned_texts import aligned_text
from choline_data.adapters.beside.list_columns import (
    SHARE,
    columns_of,
    names_classes_of,
    numbered_media,
    states_classes,
    with_class_names,
)
from choline_data.adapters.reading import media, members
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.media_paths import equal_items, path_of
from choline_data.adapters.reading.names import is_about, parts
from choline_data.adapters.reading.twins import of_one_text, other_split, twins_of
from choline_data.errors import ChoiceNeededError, SourceFormatError, one_line

MAX_TEXT_BYTES = 256 << 20
_LISTS = re.compile(r"\.(?:txt|tsv|lst|list|csv|data|scp|fileids|transcription|trn|ctl)(?:\.gz)?$", re.IGNORECASE)
_LIST_NAMES = frozenset({"text", "wav.scp", "segments", "fileids", "transcription", "transcripts", "prompts"})
_SIDECAR = re.compile(
    r"^(?P<stem>.+?)(?:\.(?:normalized|original))?\.(?:txt|lab|trn|wrd|phn|textgrid|eaf|caption|srt|vtt)$",
    re.IGNORECASE,
)
_PLAIN = (
    "txt",
    "lab",
    "trn",
    "caption",
    "srt",
    "vtt",
    "textgrid",
    "eaf",
    "wrd",
    "phn",
)  # the first one of these columns that has a text is used
_SPHINX = re.compile(r"^(?P<text>.*?)\((?P<id>[^()\s]+)\)\s*$")
_MARKS = re.compile(r"</?s>|<sil>")
_ARCTIC = re.compile(r'^\(\s*(?P<id>\S+)\s+"(?P<text>.*)"\s*\)$')

_UTT2 = re.compile(r"^utt2(\w+)$")  # Kaldi: the speaker, language, duration … of each utterance

_CAPTION = re.compile(r"^(?P<name>\S.*?\.\w{3,4})#\d+\s+(?P<text>\S.*)$")
_WHOLE = re.compile(r"^-?\d+$")

_BREAKS = re.compile(r"[\s,;:]+")
_NUMBER = re.compile(r"^[-+]?\d+(?:\.\d*)?(?:e[-+]?\d+)?$", re.IGNORECASE)

LIST = "a list of clips"
COLUMNS = "values of the clips"

Values = dict[str, Any]
Pair = tuple[str, Values]


@dataclass(frozen=True)
class _Entry:
    """An entry of a list: the path of the medium as the file states it, the folders of the file itself, and the values.

    An entry with a `loose` path may have other folders than the medium, because the path is absolute.
    """

    path: tuple[str, ...]
    folders: tuple[str, ...]
    values: Values
    loose: bool
    source: str

    def rank(self, path: tuple[str, ...], alone: bool) -> tuple[int, int] | None:
        """Returns a rank for how well the entry fits a medium with this path; None if it does not fit."""
        if len(self.path) == 1 and other_split(self.folders, path[:-1]):
            return None
        tail, near = equal_items(self.path[::-1], path[::-1]), equal_items(self.folders, path[:-1])
        fits = tail in (len(self.path), len(path))
        beside = self.folders == path[:-1]
        return (tail, near) if fits or (self.loose and (tail > 1 or beside or alone)) else None


@dataclass
class Spoken:
    """The values that transcripts and lists state about media, by the stem of the medium."""

    entries: dict[str, list[_Entry]] = field(default_factory=lambda: defaultdict(list))
    # by the name of the medium: values from a text with the same name
    beside: dict[str, Values] = field(default_factory=dict)

    def add(self, name: str, source: str, values: Values) -> None:
        """Adds the values that the list `source` states about the medium `name`."""
        path = path_of(name)
        if path:
            folders = tuple(p.lower() for p in parts(source)[:-1])
            self.entries[path[-1]].append(_Entry(path, folders, values, name.startswith("/") or ":" in name, source))

    def of(self, name: str) -> Values:
        """Returns the values that the files state for the medium with this name.

        If several entries fit equally well but differ, none of them is used.
        """
        listed = {
            key: found[0][1] for key, found in self._fitting(name).items() if len({str(v) for _, v in found}) == 1
        }
        return {**self.beside.get(name, {}), **listed}

    def refuse_unlike(self, clips: Iterable[SourceFile]) -> None:
        """Raises ChoiceNeededError if two lists state different values for the same medium, and fit equally well."""
        for clip in clips:
            for key, found in self._fitting(clip.name).items():
                (first, one), *others = found
                other = next((pair for pair in others if pair[1] != one and pair[0] != first), None)
                if other is not None:
                    raise ChoiceNeededError(
                        f"{first} states {one_line(str(one), 40)!r} and {other[0]} states {one_line(str(other[1]), 40)!r} as "
                        f"{key} of {clip.name}.",
                        remedy=f"Choose: --exclude {parts(first)[-1]!r} | --exclude {parts(other[0])[-1]!r}",
                    )

    def refuse_numbers(self, clips: Iterable[SourceFile], joined: Mapping[str, str]) -> None:
        """Raises ChoiceNeededError if lists contain numbers, such as boxes or attributes, instead of captions."""
        stated = [(c.name, str(text)) for c in clips if (text := self.of(c.name).get("transcription"))]
        if stated and not any(is_prose(text) for _, text in stated[:64]):
            name, text = stated[0]
            lists = [parts(n)[-1] for n, why in joined.items() if why != LIST]
            raise ChoiceNeededError(
                f"{', '.join(lists[:3])}: the values of {name} are {one_line(text, 40)!r}, which is not a caption.",
                remedy=f"Write them as a table with names of columns (metadata.csv), or leave them out: --exclude {lists[0]!r}"
                if lists
                else "Leave the lists out with --exclude.",
            )

    def _fitting(self, name: str) -> dict[str, list[tuple[str, Any]]]:
        """Returns the values of the entries that fit best, by key, each with the file that states it."""
        path = path_of("/".join(parts(name)))
        entries = self.entries.get(path[-1], [])
        ranked: dict[str, tuple[tuple[int, int], list[tuple[str, Any]]]] = {}
        for entry in entries:
            rank = entry.rank(path, alone=len({e.path for e in entries}) == 1)
            if rank is None:
                continue
            for key, value in entry.values.items():
                if key not in ranked or rank > ranked[key][0]:
                    ranked[key] = (rank, [(entry.source, value)])
                elif rank == ranked[key][0]:
                    ranked[key][1].append((entry.source, value))
        return {key: found for key, (_, found) in ranked.items()}


def is_prose(text: str) -> bool:
    """Returns whether a text can be a caption. Boxes (YOLO, KITTI, DOTA …) are lines of numbers with few words."""
    words = _BREAKS.split(text.strip())
    return sum(bool(_NUMBER.match(word)) for word in words) * 2 < len(words)


def may_be_list(name: str) -> bool:
    """Whether a file may be a list with a line for each clip."""
    last = parts(name)[-1].lower()
    return bool(_LISTS.search(name) or last in _LIST_NAMES or _UTT2.match(last)) and not is_about(name)


def spoken_of(
    texts: Sequence[SourceFile],
    clips: Sequence[SourceFile],
    *,
    lists_only: bool = False,
    columns: Collection[str] | None = None,
) -> tuple[Spoken, dict[str, str]]:
    """Reads the texts that may describe these clips. Returns the values that they state, and the texts that describe a
    clip, each with the reason.

    With `lists_only`, texts with the name of a clip are not read. `columns` are the lists with several values for
    each clip. If it is empty, these are found; if it is None, there are none.
    """
    found = Spoken()
    joined: dict[str, str] = {}
    stems = {path_of("/".join(parts(clip.name)))[-1] for clip in clips}
    aliases: dict[str, str] = {}
    groups = of_one_text(clips, {stem_of_sidecar(f.name) for f in texts})
    firsts = [replace(its[0], name=name) for name, its in groups.items()]
    twins = twins_of([f for f in texts if stem_of_sidecar(f.name)], firsts, stem_of_sidecar)
    owner = {file.path: name for name, files in twins.items() for file in files}
    # A caption such as "2 dogs" does not make a file a list, even if a picture has the name `2`.
    lists = [f for f in texts if may_be_list(f.name) and f.path not in owner]
    lists.sort(key=lambda f: parts(f.name)[-1].lower() != "wav.scp")
    if columns is not None:
        joined |= _add_columns(
            [f for f in lists if not columns or f.name in columns], stems, found, 0 if columns else SHARE
        )
    for file, data in members.contents([f for f in lists if f.name not in joined], MAX_TEXT_BYTES):
        lines = _lines(data or b"", file.name)
        last = parts(file.name)[-1].lower()
        if last == "wav.scp":
            aliases |= _recordings(lines, stems)
            joined[file.name] = f"names the recordings of {len(aliases):,} utterances"
            continue
        if last == "segments" and aliases:
            raise SourceFormatError(
                f"{file.name}: the samples are parts of recordings (Kaldi segments), which are not cut here.",
                remedy="Write one file for each utterance: extract-segments in Kaldi, or lhotse.",
            )
        pairs = _captions(lines, stems) or _best(lines, stems | aliases.keys())
        if pairs is None:
            continue
        pairs = _with_classes(pairs)
        if about := _UTT2.match(last):
            key = "speaker" if about[1] == "spk" else about[1]
            pairs = [(name, {key: values.get("transcription")}) for name, values in pairs]
        for name, values in pairs:
            found.add(aliases.get(name.lower(), name), file.name, values)
        joined[file.name] = "transcripts" if any(values.keys() - {"label"} for _, values in pairs) else LIST
    rest = [f for f in texts if f.name not in joined]
    if not lists_only:
        joined |= _sidecars(rest, owner, found)
        for name, its in groups.items():
            if stated := found.beside.get(name):
                found.beside |= {clip.name: stated for clip in its}
    return found, joined


def _add_columns(lists: Sequence[SourceFile], stems: set[str], found: Spoken, share: float) -> dict[str, str]:
    """Adds the values of lists with columns (`list_columns`). Returns these lists, each with the reason."""
    read = {f.name: _lines(data or b"", f.name) for f, data in members.contents(lists, MAX_TEXT_BYTES)}
    numbered = {name: numbers for name, lines in read.items() if (numbers := numbered_media(lines, stems, share))}
    numbers = next(iter(numbered.values())) if len(numbered) == 1 else {}
    joined = dict.fromkeys(numbered, COLUMNS) if numbers else {}
    for name, lines in read.items():
        pairs = columns_of(lines, name, stems, numbers, share) if name not in joined else None
        if pairs is None:
            continue
        if states_classes(name, pairs):
            others = {other: its for other, its in read.items() if other != name and names_classes_of(other)}
            pairs = with_class_names(pairs, list(others.values()))
            joined |= dict.fromkeys(others, COLUMNS)
        for medium, values in pairs:
            found.add(medium, name, values)
        joined[name] = COLUMNS
    return joined


def _lines(data: bytes, name: str) -> list[str]:
    lines = (line.strip() for line in decoded(data, name)[0].splitlines())
    return [line for line in lines if line and line[0] not in ";#"]


def _captions(lines: Sequence[str], stems: set[str]) -> list[Pair]:
    """Returns the captions of each picture, if each line has the name of a picture, a number and a caption."""
    found: dict[str, list[str]] = {}
    matches = [match for match in map(_CAPTION.match, lines) if match]
    for match in matches:
        found.setdefault(match["name"], []).append(match["text"].strip())
    fits = len(matches) * 2 > len(lines) and any(_known(name, stems) for name in found)
    return [(name, {"captions": texts}) for name, texts in found.items()] if fits else []


def _with_classes(pairs: list[Pair]) -> list[Pair]:
    """If all texts are numbers, or name a folder of their path, returns them as classes instead of texts.

    If each line has a different number, the numbers are not classes.
    """
    texts = [(name, values.get("transcription", "")) for name, values in pairs]
    numbers = all(_WHOLE.match(text) for _, text in texts)
    if not texts or not (numbers or all(text.lower() in path_of(name)[:-1] for name, text in texts)):
        return pairs
    counted = numbers and len({text for _, text in texts}) == len(texts) > 2
    return [(name, {} if counted else {"label": text}) for name, text in texts]


def _recordings(lines: Iterable[str], stems: set[str]) -> dict[str, str]:
    """Returns the recording of each utterance in a Kaldi `wav.scp`. The path of a recording may be part of a command there."""
    found = {}
    for line in lines:
        utterance, *words = line.split()
        path = next((word for word in words if _known(word, stems)), "")
        if path:
            found[utterance.lower()] = path
    return found


def _known(name: str, stems: set[str] | Mapping[str, Any]) -> bool:
    path = path_of(name)
    return bool(path) and path[-1] in stems


def _best(lines: Sequence[str], stems: set[str]) -> list[Pair] | None:
    """Parses the lines in the form in which most of them name a clip. Returns None if few lines name a clip in every form."""
    best: list[Pair] = []
    most = 0
    for form in _FORMS:
        pairs = form(lines)
        hits = sum(_known(name, stems) for name, _ in pairs)
        if hits > most:
            best, most = pairs, hits
    return best if most and most * 2 >= min(len(lines), len(stems)) else None


def _of_sphinx(lines: Sequence[str]) -> list[Pair]:
    found = (m for m in map(_SPHINX.match, lines) if m)
    return [(m["id"], {"transcription": " ".join(_MARKS.sub(" ", m["text"]).split())}) for m in found]


def _of_arctic(lines: Sequence[str]) -> list[Pair]:
    return [(m["id"], {"transcription": m["text"]}) for m in map(_ARCTIC.match, lines) if m]


def _of_bars(lines: Sequence[str]) -> list[Pair]:
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if "|" in line]
    if not rows:
        return []
    width = max(map(len, rows))
    second = {row[1] for row in rows if len(row) > 1}
    names = ["transcription"] if width == 2 else ["transcription", "normalized_transcription"]
    if width > 2 and not any(" " in cell for cell in second) and len(second) * 2 <= len(rows):
        names = ["speaker", "transcription"]
    names += [f"field_{number}" for number in range(len(names) + 1, width)]
    return [(row[0], dict(zip(names, row[1:], strict=False))) for row in rows]


def _parted(separator: str | None) -> Callable[[Sequence[str]], list[Pair]]:
    def pairs(lines: Sequence[str]) -> list[Pair]:
        found = []
        for line in lines:
            name, *rest = line.split(separator, 1)
            text = rest[0].strip() if rest else ""
            if text:
                found.append((name.strip(), {"transcription": text}))
        return found

    return pairs


def _of_names(lines: Sequence[str]) -> list[Pair]:
    return [(line, {}) for line in lines]


_FORMS = (_of_sphinx, _of_arctic, _of_bars, _parted("\t"), _parted(":"), _parted(None), _of_names)


def stem_of_sidecar(name: str) -> str:
    """Returns the stem, in lower case, of the medium that a text of the same name describes. "" for other files."""
    match = _SIDECAR.match(parts(name)[-1])
    return match["stem"].lower() if match and not is_about(name) else ""


def _sidecars(texts: Sequence[SourceFile], owner: Mapping[str, str], found: Spoken) -> dict[str, str]:
    """Adds the texts that have the name of a clip, if most of the texts have one. `owner` is the clip of each text."""
    named = sorted((f for f in texts if f.path in owner), key=lambda f: _place(f.name))
    if len(named) * 2 < len([f for f in texts if stem_of_sidecar(f.name)]):
        return {}
    for file, data in members.contents(named, MAX_TEXT_BYTES):
        values = found.beside.setdefault(owner[file.path], {})
        for key, value in aligned_text(data or b"", file.name, media.suffix_of(file.name)).items():
            values.setdefault(_middle(file.name) or key if key == "transcription" else key, value)
    return {f.name: "describes the clip of the same name" for f in named}


def _place(name: str) -> int:
    suffix = media.suffix_of(name)
    return _PLAIN.index(suffix) if suffix in _PLAIN else len(_PLAIN)


def _middle(name: str) -> str:
    """Returns the word before the extension that says which kind of text it is: `normalized` of `a.normalized.txt`."""
    words = parts(name)[-1].lower().split(".")
    return words[-2] if len(words) > 2 and words[-2] in ("normalized", "original") else ""
