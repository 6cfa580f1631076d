"""Reads folders of audio clips, with their transcripts or labels from a file or from the names.

The transcripts or labels come from one of these:

- `metadata.csv` or `metadata.jsonl` with `file_name`, as on the Hub.
- Lists with a line for each clip, and texts with the name of a clip (`beside/transcripts.py` has their forms). `;` or `#`
  begins a comment; lines without a clip are skipped.
- The folders, without leading numbers (`001 - Dog bark` is "Dog bark"). Lists such as `testing_list.txt` decide the splits.
- Names that follow a scheme (`beside/naming_schemes.py`), such as those of RAVDESS.
- Names `<label>_<speaker>_<n>` (`7_jackson_3.wav`), if there are few labels for all clips, and no folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.beside.class_files import names_classes
from choline_data.adapters.beside.naming_schemes import scheme_of, values_in, with_parts
from choline_data.adapters.beside.transcripts import LIST, Spoken, spoken_of
from choline_data.adapters.image_folder import NAMES, media_shards, only_beside, read_media
from choline_data.adapters.reading import media
from choline_data.adapters.reading.folder_metadata import has_file_names, is_metadata
from choline_data.adapters.reading.io import extension
from choline_data.adapters.reading.media import MAX_MEDIUM_BYTES
from choline_data.adapters.reading.names import class_folders, is_about, labels_in, parts, shared_folders
from choline_data.adapters.reading.split_lists import in_lists

_NAMED = re.compile(r"^(?P<label>[^_]+)_(?P<speaker>[^_]+)_(?P<take>\d+)$")
_NUMBERED = re.compile(r"^\d+ - ")
# Extensions of texts and tables about speakers, words and books. Kaldi's lists have none.
_NOTES = frozenset(
    {"", "txt", "csv", "tsv", "json", "md", "html", "pdf", "xml", "dic", "phone", "filler", "lm", "dmp", "fst"}
)


@dataclass(frozen=True)
class AudioFolder:
    """Reads one clip for each row, without decoding it. `labels` selects the source of labels or transcripts."""

    labels: str = "folders"  # one of: folders, names, transcripts, none, or names:SCHEME
    max_bytes: int = MAX_MEDIUM_BYTES
    column: ClassVar[str] = "audio"
    text: ClassVar[str] = "transcription"

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Groups of clips by split, in order of name. Each shard also has the files that describe its clips."""
        shards = media_shards(files, self.column)
        return [only_beside(shard, self.column) for shard in shards] if self.labels == "transcripts" else shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the clips of the shard. Files that are not audio, or are too large, are rejected."""
        beside = [f for f in shard.files if media.column_for(f.name) != self.column]
        spoken = Spoken()
        if self.labels == "transcripts":
            clips = tuple(f for f in shard.files if media.column_for(f.name) == self.column)
            spoken, _ = spoken_of(beside, clips)
            shard = replace(shard, files=clips)

        def values(file: SourceFile, folders: list[str]) -> dict[str, Any]:
            stem = parts(file.name)[-1].rsplit(".", 1)[0]
            if self.labels == "transcripts":
                stated = {"transcription": None, **spoken.of(file.name), "folder": "/".join(folders) or None}
                return {self.text if key == "transcription" else key: value for key, value in stated.items()}
            if self.labels == "names" and (match := _NAMED.match(stem)):
                return match.groupdict()
            if self.labels.startswith(NAMES):
                return {"label": None, **values_in(file.name, self.labels.removeprefix(NAMES))}
            return _label(labels_in(folders, file), folders) if self.labels == "folders" else {}

        yield from read_media(shard, self.column, start, self.max_bytes, values)


ADAPTER = AudioFolder


def _label(labels: list[str], folders: list[str]) -> dict[str, Any]:
    """Returns the label of a clip, from its class folders, and the list of its folders."""
    if not labels:
        return {}
    return {"label": "/".join(_NUMBERED.sub("", label) for label in labels), "folder": "/".join(folders)}


def detect(source: Source) -> list[FormatClaim]:
    """Claims the audio clips of a source. Claims nothing if more than half as many other data files are left that do
    not describe the clips.
    """
    return clips_of(source, AudioFolder)


def clips_of(source: Source, reader: type[AudioFolder]) -> list[FormatClaim]:
    """Returns the claim for the clips of a source that `reader` reads, with the files that describe them."""
    clips = [f for f in source.files if media.column_for(f.name) == reader.column]
    others = [f for f in source.files if media.column_for(f.name) != reader.column and not is_about(f.name)]
    if not clips:
        return []
    metadata = [f for f in others if is_metadata(f.name) and has_file_names(f)]
    if metadata:
        if len(others) - len(metadata) > len(clips) / 2:
            return []
        return [
            _claim(reader("none"), clips, {f.name: "names the clips" for f in metadata}, metadata, "a metadata file")
        ]
    spoken, joined = spoken_of(others, clips)
    spoken.refuse_unlike(clips)
    if reader.text == "caption":
        spoken.refuse_numbers(clips, joined)
    clips = in_lists(clips, [f for f in others if f.name in joined])
    clip_keys = [spoken.of(f.name).keys() for f in clips]
    matched = sum("transcription" in keys for keys in clip_keys)
    # If each clip has a text file, the texts and tables that name no clip describe the dataset.
    notes = [f for f in others if f.name not in joined and _is_note(f)] if matched == len(clips) else []
    shared = shared_folders(clips)
    folders = {folder.lower() for f in clips for folder in class_folders(f, shared)}
    classes = [f for f in others if f.name not in joined and f not in notes and names_classes(f, folders)]
    if len(others) - len(joined) - len(notes) - len(classes) > len(clips) / 2:
        return []
    beside = [f for f in others if f.name in joined]
    in_folders = any(labels_in(class_folders(f, shared), f) for f in clips)
    if matched * 2 >= len(clips):
        return [_claim(reader("transcripts"), clips, joined, beside, f"{matched} have transcripts", notes)]
    if not in_folders and sum("label" in keys for keys in clip_keys) * 2 >= len(clips):
        return [_claim(reader("transcripts"), clips, joined, beside, "classes in a list")]
    lists = {name: why for name, why in joined.items() if why == LIST}
    beside = [f for f in others if f.name in lists]
    stems = [_NAMED.match(parts(f.name)[-1].rsplit(".", 1)[0]) for f in clips]
    labels = {m["label"] for m in stems if m}
    if all(stems) and len(labels) * 2 <= len(clips) and not in_folders:
        return [_claim(reader("names"), clips, lists, beside, f"{len(labels)} labels in the names")]
    if scheme := scheme_of(clips, in_classes=in_folders):
        how = f"labels in the names ({scheme})"
        return [_claim(reader(f"{NAMES}{scheme}"), with_parts(clips, scheme), lists, beside, how, classes=classes)]
    return [_claim(reader("folders"), clips, lists, beside, "classes by folder", classes=classes)]


def _is_note(file: SourceFile) -> bool:
    return not media.column_for(file.name) and extension(file.name) in _NOTES


def _claim(
    reader: AudioFolder,
    clips: list[SourceFile],
    joined: dict[str, str],
    beside: list[SourceFile],
    how: str,
    notes: Sequence[SourceFile] = (),
    classes: Sequence[SourceFile] = (),
) -> FormatClaim:
    described = [(f.name, "names none of the clips, which all have a text") for f in notes]
    described += [(f.name, "names the classes") for f in classes]
    evidence = f"{len(clips)} clips, {how}"
    files = (*clips, *beside)
    return FormatClaim(
        reader, files, 1.0, evidence, kind=reader.column, described=tuple(described), joined=tuple(joined.items())
    )
