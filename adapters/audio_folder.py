"""Reads folders of audio clips, with their transcripts or labels from a file or from the names.

The transcripts or labels come from one of these:

- `metadata.csv` or `metadata.jsonl` with `file_name`, as on the Hub.
- Lists with a line for each clip, and texts with the name of a clip (`reading/transcripts.py` has their forms). `;` or `#`
  begins a comment; lines without a clip are skipped.
- The folders, without leading numbers (`001 - Dog bark` is "Dog bark"). Lists such as `testing_list.txt` decide the splits.
- Names `<label>_<speaker>_<n>` (`7_jackson_3.wav`), if there are few labels for all clips, and no folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.image_folder import media_shards, only_beside, read_media
from choline_data.adapters.reading import media, members
from choline_data.adapters.reading.encodings import decoded
from choline_data.adapters.reading.folder_metadata import has_file_names, is_metadata
from choline_data.adapters.reading.media import MAX_MEDIUM_BYTES
from choline_data.adapters.reading.names import class_folders, is_about, parts, shared_folders
from choline_data.adapters.reading.split_words import splits_in
from choline_data.adapters.reading.transcripts import (
    LIST,
    MAX_TEXT_BYTES,
    Spoken,
    path_of,
    spoken_of,
)

_NAMED = re.compile(r"^(?P<label>[^_]+)_(?P<speaker>[^_]+)_(?P<take>\d+)$")
_NUMBERED = re.compile(r"^\d+ - ")


@dataclass(frozen=True)
class AudioFolder:
    """Reads one clip for each row, without decoding it. `labels` selects the source of labels or transcripts."""

    labels: str = "folders"  # one of: folders, names, transcripts, none
    max_bytes: int = MAX_MEDIUM_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns groups of clips by split, in order of name. Each shard also has the files that describe its clips."""
        shards = media_shards(files, "audio")
        return [only_beside(shard, "audio") for shard in shards] if self.labels == "transcripts" else shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the clips of the shard. Files that are not audio, or are too large, are rejected."""
        beside = [f for f in shard.files if media.column_for(f.name) != "audio"]
        spoken = Spoken()
        if self.labels == "transcripts":
            clips = tuple(f for f in shard.files if media.column_for(f.name) == "audio")
            spoken, _ = spoken_of(beside, [f.name for f in clips])
            shard = replace(shard, files=clips)

        def values(file: SourceFile, folders: list[str]) -> dict[str, Any]:
            stem = parts(file.name)[-1].rsplit(".", 1)[0]
            if self.labels == "transcripts":
                return {"transcription": None, **spoken.of(file.name), "folder": "/".join(folders) or None}
            if self.labels == "names" and (match := _NAMED.match(stem)):
                return match.groupdict()
            return _label(folders) if self.labels == "folders" else {}

        yield from read_media(shard, "audio", start, self.max_bytes, values)


ADAPTER = AudioFolder


def _label(folders: list[str]) -> dict[str, Any]:
    """Returns the folders of a clip as its label."""
    if not folders:
        return {}
    return {"label": "/".join(_NUMBERED.sub("", folder) for folder in folders), "folder": "/".join(folders)}


def detect(source: Source) -> list[FormatClaim]:
    """Claims the clips of a source. Claims nothing if more than half as many other data files do not describe the clips."""
    clips = [f for f in source.files if media.column_for(f.name) == "audio"]
    others = [f for f in source.files if media.column_for(f.name) != "audio" and not is_about(f.name)]
    if not clips:
        return []
    metadata = [f for f in others if is_metadata(f.name) and has_file_names(f)]
    if metadata:
        if len(others) - len(metadata) > len(clips) / 2:
            return []
        return [_claim("none", clips, {f.name: "names the clips" for f in metadata}, metadata, "a metadata file")]
    spoken, joined = spoken_of(others, [f.name for f in clips])
    if len(others) - len(joined) > len(clips) / 2:
        return []
    clips = in_lists(clips, [f for f in others if f.name in joined])
    matched = sum("transcription" in spoken.of(f.name) for f in clips)
    if matched * 2 >= len(clips):
        beside = [f for f in others if f.name in joined]
        return [_claim("transcripts", clips, joined, beside, f"{matched} have transcripts")]
    lists = {name: why for name, why in joined.items() if why == LIST}
    beside = [f for f in others if f.name in lists]
    shared = shared_folders(clips)
    stems = [_NAMED.match(parts(f.name)[-1].rsplit(".", 1)[0]) for f in clips]
    labels = {m["label"] for m in stems if m}
    in_folders = any(class_folders(f.name, shared) for f in clips)
    if all(stems) and len(labels) * 2 <= len(clips) and not in_folders:
        return [_claim("names", clips, lists, beside, f"{len(labels)} labels in the names")]
    return [_claim("folders", clips, lists, beside, "classes by folder")]


def _claim(
    labels: str, clips: list[SourceFile], joined: dict[str, str], beside: list[SourceFile], how: str
) -> FormatClaim:
    evidence = f"{len(clips)} clips, {how}"
    files = (*clips, *beside)
    return FormatClaim(AudioFolder(labels), files, 1.0, evidence, kind="audio", joined=tuple(joined.items()))


def in_lists(clips: list[SourceFile], lists: list[SourceFile]) -> list[SourceFile]:
    """Gives each clip the split of the list that names it, such as `testing_list.txt`.

    Clips that no list names are for training.
    """
    listed: dict[tuple[str, ...], str] = {}
    for file, data in members.contents(lists, MAX_TEXT_BYTES):
        splits = splits_in(parts(file.name)[-1].partition(".")[0])
        lines = decoded(data or b"", file.name)[0].splitlines()
        if len(splits) == 1 and not any(" " in line.strip() for line in lines[:100]):
            listed |= {path_of(line): splits[0] for line in lines if line.strip()}
    if not listed:
        return clips
    marked = []
    for clip in clips:
        path = path_of(clip.name)
        split = next((listed[path[at:]] for at in range(len(path)) if path[at:] in listed), "train")
        marked.append(replace(clip, split=split))
    return marked
