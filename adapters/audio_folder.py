"""Reads folders of audio clips, with their transcripts or labels from a file or from the names.

The transcripts or labels come from one of these:

- `metadata.csv` or `metadata.jsonl` with `file_name`, as on the Hub.
- A text file with lines `relative/name: text`. `;` or `#` begins a comment; lines without a clip are skipped.
- Names `<label>_<speaker>_<n>` (`7_jackson_3.wav`), if there are few labels for all clips.
- Otherwise the deepest folder is the label, without a leading number (`001 - Dog bark` is "Dog bark").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.image_folder import media_shards, read_media
from choline_data.adapters.reading import io, media, members
from choline_data.adapters.reading.encodings import decoded, for_a_look
from choline_data.adapters.reading.folder_metadata import is_metadata, placed
from choline_data.adapters.reading.media import MAX_MEDIUM_BYTES
from choline_data.adapters.reading.names import is_about, parts

MAX_TRANSCRIPT_BYTES = 64 << 20
_LINE = re.compile(r"^(?P<name>[^:;#\t|][^:\t|]*)[:\t|]\s*(?P<text>.*\S)\s*$")
_NAMED = re.compile(r"^(?P<label>[^_]+)_(?P<speaker>[^_]+)_(?P<take>\d+)$")
_NUMBERED = re.compile(r"^\d+ - ")


@dataclass(frozen=True)
class AudioFolder:
    """Reads one clip for each row, without decoding it. `labels` selects the source of labels or transcripts."""

    labels: str = "folders"  # folders, names, transcripts, none
    max_bytes: int = MAX_MEDIUM_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Groups of clips by split, in order of name. Each shard also has the transcript and metadata files."""
        return media_shards(files, "audio")

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """The clips of the shard. Files that are not audio, or are too large, are rejected."""
        beside = [f for f in shard.files if media.column_for(f.name) != "audio"]
        spoken = transcripts(beside) if self.labels == "transcripts" else {}

        def values(file: SourceFile, folders: list[str]) -> dict[str, Any]:
            stem = parts(file.name)[-1].rsplit(".", 1)[0]
            if self.labels == "transcripts":
                return {"transcription": _spoken(file.name, spoken)}
            if self.labels == "names" and (match := _NAMED.match(stem)):
                return match.groupdict()
            if self.labels == "folders" and folders:
                return {"label": _NUMBERED.sub("", folders[-1]), "folder": "/".join(folders)}
            return {}

        yield from read_media(shard, "audio", start, self.max_bytes, values)


ADAPTER = AudioFolder


def transcripts(files: Sequence[SourceFile]) -> dict[str, str]:
    """The texts in transcript files, by the clip name of each line."""
    found: dict[str, str] = {}
    wanted = [f for f in files if _may_be_transcript(f.name)]
    for file, data in members.contents(wanted, MAX_TRANSCRIPT_BYTES):
        for line in decoded(data or b"", file.name)[0].splitlines():
            if match := _LINE.match(line):
                found[match["name"].strip()] = match["text"]
    return found


def _spoken(name: str, spoken: dict[str, str]) -> str | None:
    path = parts(placed(name).rsplit(".", 1)[0])
    names = ("/".join(path[at:]) for at in range(len(path)))
    return next((spoken[n] for n in names if n in spoken), None)


def _may_be_transcript(name: str) -> bool:
    return bool(re.search(r"\.(txt|trans\.txt|tsv|lst)(\.gz)?$", name.lower())) and not is_about(name)


def detect(source: Source) -> list[FormatClaim]:
    """Claims the clips of a source, if it has at most half as many other data files as clips."""
    clips = [f for f in source.files if media.column_for(f.name) == "audio"]
    about = [f for f in source.files if is_about(f.name)]
    others = [f for f in source.files if f not in clips and f not in about]
    metadata = [f for f in others if is_metadata(f.name)]
    if not clips or len(others) - len(metadata) > len(clips) / 2:
        return []
    passed = [(f.name, "tells about the data") for f in about]
    texts = [f for f in others if _may_be_transcript(f.name) and _has_lines(f)]
    if metadata:
        return [_claim("none", clips, metadata, "a metadata file", passed)]
    spoken = transcripts(texts)
    matched = sum(_spoken(f.name, spoken) is not None for f in clips)
    if matched >= len(clips) / 2:
        idle = len(spoken) - matched
        passed += [(f.name, f"transcripts; {max(idle, 0)} of {len(spoken)} lines have no clip") for f in texts]
        return [_claim("transcripts", clips, texts, f"{matched} have transcripts", passed)]
    stems = [_NAMED.match(parts(f.name)[-1].rsplit(".", 1)[0]) for f in clips]
    labels = {m["label"] for m in stems if m}
    if all(stems) and len(labels) * 2 <= len(clips):
        return [_claim("names", clips, [], f"{len(labels)} labels in the names", passed)]
    return [_claim("folders", clips, [], "classes by folder", passed)]


def _claim(
    labels: str, clips: list[SourceFile], beside: list[SourceFile], how: str, passed: list[tuple[str, str]]
) -> FormatClaim:
    evidence = f"{len(clips)} clips, {how}"
    return FormatClaim(AudioFolder(labels), (*clips, *beside), 1.0, evidence, kind="audio", passed_over=tuple(passed))


def _has_lines(file: SourceFile) -> bool:
    lines = for_a_look(io.head(file.path, 8 << 10)).splitlines()[:-1]
    return any(_LINE.match(line) for line in lines)
