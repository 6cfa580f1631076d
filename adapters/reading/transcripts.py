"""Finds what files beside clips and pictures say about each of them: transcripts in lists, and texts of the same name.

A list has a line for each clip. Its form is found by trying: the form under which most lines name a clip is taken.

============================== =======================================================
`id text`, `id: text`           LibriSpeech (`*.trans.txt`), AISHELL, Kaldi (`text`)
`id|text|normalised text`       LJSpeech (`metadata.csv`)
`path|speaker|text`             lists for training of speech synthesis
`<s> text </s> (id)`            Sphinx
`( id "text" )`                 CMU Arctic, Festival
`id`                            a list of clips (Sphinx, Speech Commands)
============================== =======================================================
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from choline_data.adapters.base import SourceFile
from choline_data.adapters.reading import media, members
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.names import is_about, parts
from choline_data.errors import SourceFormatError

MAX_TEXT_BYTES = 256 << 20
_LISTS = re.compile(r"\.(?:txt|tsv|lst|list|csv|data|scp|fileids|transcription|trn|ctl)(?:\.gz)?$", re.IGNORECASE)
_LIST_NAMES = frozenset(
    {"text", "wav.scp", "utt2spk", "segments", "fileids", "transcription", "transcripts", "prompts"}
)
_SIDECAR = re.compile(
    r"^(?P<stem>.+?)(?:\.(?:normalized|original))?\.(?:txt|lab|trn|wrd|phn|textgrid|caption|srt|vtt)$", re.IGNORECASE
)
_AS_TRANSCRIPTION = frozenset({"txt", "lab", "trn"})
_SPHINX = re.compile(r"^(?P<text>.*?)\((?P<id>[^()\s]+)\)\s*$")
_MARKS = re.compile(r"</?s>|<sil>")
_ARCTIC = re.compile(r'^\(\s*(?P<id>\S+)\s+"(?P<text>.*)"\s*\)$')
_TIMES = re.compile(r"^\d+ \d+ ")  # TIMIT: the first and the last sample of a sentence

LIST = "a list of clips"

Values = dict[str, Any]
Pair = tuple[str, Values]


def path_of(name: str) -> tuple[str, ...]:
    """Returns the folders and the stem of a medium that a file names, in lower case. Works for paths of any system and for URLs."""
    path = [
        p
        for p in name.strip().replace("\\", "/").replace("!/", "/").split("?")[0].split("/")
        if p not in ("", ".", "..")
    ]
    if path and media.column_for(path[-1]):
        path[-1] = path[-1].rpartition(".")[0]
    return tuple(part.lower() for part in path)


@dataclass(frozen=True)
class _Entry:
    """What a file says about a medium: the path that the file states, and the folders of the file itself.

    A loose path may have other folders than the medium: an absolute path, or a text in a folder beside that of the clips.
    """

    path: tuple[str, ...]
    folders: tuple[str, ...]
    values: Values
    loose: bool

    def rank(self, path: tuple[str, ...], alone: bool) -> tuple[int, int] | None:
        """Returns a rank that says how well the entry fits a medium with this path. None if it does not fit."""
        tail, near = _same(reversed(self.path), reversed(path)), _same(self.folders, path[:-1])
        fits = tail in (len(self.path), len(path))
        beside = self.folders == path[:-1]
        return (tail, near) if fits or (self.loose and (tail > 1 or beside or alone)) else None


@dataclass
class Spoken:
    """The values that files beside media state, by the stem of the medium."""

    entries: dict[str, list[_Entry]] = field(default_factory=lambda: defaultdict(list))

    def add(self, name: str, source: str, values: Values, *, loose: bool = False) -> None:
        """Adds what the file `source` says about the medium `name`."""
        path = path_of(name)
        if path:
            folders = tuple(p.lower() for p in parts(source)[:-1])
            self.entries[path[-1]].append(_Entry(path, folders, values, loose or name.startswith("/") or ":" in name))

    def of(self, name: str) -> Values:
        """Returns the values that the files state for the medium with this name.

        If several entries fit equally well but differ, none of them is used.
        """
        path = path_of("/".join(parts(name)))
        entries = self.entries.get(path[-1], [])
        ranked: dict[str, tuple[tuple[int, int], list[Any]]] = {}
        for entry in entries:
            rank = entry.rank(path, alone=len({e.path for e in entries}) == 1)
            if rank is None:
                continue
            for key, value in entry.values.items():
                if key not in ranked or rank > ranked[key][0]:
                    ranked[key] = (rank, [value])
                elif rank == ranked[key][0] and value not in ranked[key][1]:
                    ranked[key][1].append(value)
        return {key: values[0] for key, (_, values) in ranked.items() if len(values) == 1}


def _same(one: Iterable[str], other: Iterable[str]) -> int:
    """Returns the number of equal items at the beginning of both sequences."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count


def may_be_list(name: str) -> bool:
    """Whether a file may be a list with a line for each clip."""
    return (bool(_LISTS.search(name)) or parts(name)[-1].lower() in _LIST_NAMES) and not is_about(name)


def spoken_of(texts: Sequence[SourceFile], clips: Iterable[str]) -> tuple[Spoken, dict[str, str]]:
    """Returns what the texts say about these clips, and the texts that say something about a clip, each with the reason."""
    spoken, joined = Spoken(), {}
    stems = {path_of("/".join(parts(name)))[-1] for name in clips}
    aliases: dict[str, str] = {}
    lists = sorted((f for f in texts if may_be_list(f.name)), key=lambda f: parts(f.name)[-1].lower() != "wav.scp")
    for file, data in members.contents(lists, MAX_TEXT_BYTES):
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
        pairs = _best(lines, stems | aliases.keys())
        if pairs is None:
            continue
        if last == "utt2spk":
            pairs = [(name, {"speaker": values.get("transcription")}) for name, values in pairs]
        for name, values in pairs:
            spoken.add(aliases.get(name.lower(), name), file.name, values)
        joined[file.name] = "transcripts" if any(values for _, values in pairs) else LIST
    rest = [f for f in texts if f.name not in joined]
    joined |= _sidecars(rest, stems, spoken)
    return spoken, joined


def _lines(data: bytes, name: str) -> list[str]:
    lines = (line.strip() for line in decoded(data, name)[0].splitlines())
    return [line for line in lines if line and line[0] not in ";#"]


def _recordings(lines: Iterable[str], stems: set[str]) -> dict[str, str]:
    """Returns the recording of each utterance in a Kaldi `wav.scp`. The path of a recording may be part of a command there."""
    recordings = {}
    for line in lines:
        utterance, *words = line.split()
        path = next((word for word in words if _known(word, stems)), "")
        if path:
            recordings[utterance.lower()] = path
    return recordings


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
    matches = (m for m in map(_SPHINX.match, lines) if m)
    return [(m["id"], {"transcription": " ".join(_MARKS.sub(" ", m["text"]).split())}) for m in matches]


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
        entries = []
        for line in lines:
            name, *rest = line.split(separator, 1)
            text = rest[0].strip() if rest else ""
            if text:
                entries.append((name.strip(), {"transcription": text}))
        return entries

    return pairs


def _of_names(lines: Sequence[str]) -> list[Pair]:
    return [(line, {}) for line in lines]


_FORMS = (_of_sphinx, _of_arctic, _of_bars, _parted("\t"), _parted(":"), _parted(None), _of_names)


def stem_of_sidecar(name: str) -> str:
    """Returns the stem, in lower case, of the medium that a text of the same name describes. "" for other files."""
    match = _SIDECAR.match(parts(name)[-1])
    return match["stem"].lower() if match and not is_about(name) else ""


def _sidecars(texts: Sequence[SourceFile], stems: set[str], found: Spoken) -> dict[str, str]:
    """Adds the texts that have the name of a clip, if most of the texts have one."""
    named = [f for f in texts if stem_of_sidecar(f.name) in stems]
    if len(named) * 2 < len([f for f in texts if stem_of_sidecar(f.name)]):
        return {}
    for file, data in members.contents(named, MAX_TEXT_BYTES):
        text = decoded(data or b"", file.name)[0].strip()
        stem = stem_of_sidecar(file.name)
        suffix = ".".join(parts(file.name)[-1].lower()[len(stem) + 1 :].split(".")[:-1]) or media.suffix_of(file.name)
        column = "transcription" if suffix in _AS_TRANSCRIPTION else suffix
        found.add("/".join([*parts(file.name)[:-1], stem]), file.name, {column: _TIMES.sub("", text)}, loose=True)
    return {f.name: "describes the clip of the same name" for f in named}
