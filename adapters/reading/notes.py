"""Recognises notes: short texts beside a dataset that describe it, and are not samples."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from choline_data.adapters.base import Adapter, FormatClaim, SourceFile
from choline_data.adapters.reading import io
from choline_data.adapters.reading.media import column_for
from choline_data.adapters.reading.names import parts

MAX_NOTES = 4
MAX_NOTE_BYTES = 64 << 10
_PROSE = frozenset({"Text", "SourceTree"})


def without_notes(claims: Sequence[FormatClaim]) -> list[FormatClaim]:
    """Returns the claims without a few short texts that are beside files of rows. Such texts describe the dataset."""
    claims = _without_illustrations(_without_documents(_without_descriptors(claims)))
    if all(_is_prose(claim.adapter) or claim.kind in ("image", "audio", "video") for claim in claims):
        return list(claims)
    rows = [file for claim in claims if not _is_prose(claim.adapter) for file in claim.files]
    stems, folders = set(map(_stem, rows)), {folder for file in rows for folder in _folders_of(file)}
    remaining: list[FormatClaim] = []
    notes: list[SourceFile] = []
    for claim in claims:
        if _is_prose(claim.adapter) and all(_is_note(file, stems, folders) for file in claim.files):
            notes += claim.files
        else:
            remaining.append(claim)
    if not remaining or len(notes) > MAX_NOTES:
        return list(claims)
    described = tuple((file.name, "a note beside the data") for file in notes)
    return [replace(remaining[0], described=remaining[0].described + described), *remaining[1:]]


_DOCUMENTS = frozenset({"PdfPages", "WordDocuments", "Notebooks", "HtmlPages", "FrontMatter", "Books"})


def _without_documents(claims: Sequence[FormatClaim]) -> Sequence[FormatClaim]:
    """Returns the claims without a few documents, such as a paper or a notebook, that are beside more files of another
    format.
    """
    documents = [c for c in claims if type(c.adapter).__name__ in _DOCUMENTS]
    kept = [c for c in claims if c not in documents]
    found = [file for claim in documents for file in claim.files]
    data = sum(len(claim.files) for claim in kept)
    if not found or len(found) > MAX_NOTES or not data:
        return claims
    if len(found) >= data and all(_is_prose(claim.adapter) for claim in kept):
        return claims
    described = tuple((file.name, "a document beside the data") for file in found)
    return [replace(kept[0], described=kept[0].described + described), *kept[1:]]


def _without_illustrations(claims: Sequence[FormatClaim]) -> Sequence[FormatClaim]:
    """Returns the claims without a few media that illustrate a dataset, such as a logo. They are beside more media of
    another kind, which a table names.
    """
    named = [c for c in claims if type(c.adapter).__name__ == "MediaTable"]
    kinds = {column_for(f.name) for c in named for f in c.files} - {""}
    media = sum(bool(column_for(f.name)) for c in named for f in c.files)
    folders = {_folder_of(f) for c in named for f in c.files if column_for(f.name)}
    few = [
        c
        for c in claims
        if type(c.adapter).__name__ in ("ImageFolder", "AudioFolder", "VideoFolder")
        and len(c.files) <= MAX_NOTES
        and len(c.files) * 4 <= media
        and not any(column_for(f.name) in kinds or _folder_of(f) in folders for f in c.files)
    ]
    if not few:
        return claims
    kept = [c for c in claims if c not in few]
    described = tuple((f.name, "a medium beside the data") for c in few for f in c.files)
    return [replace(kept[0], described=kept[0].described + described), *kept[1:]]


_DESCRIPTORS = re.compile(
    r"^(?:(?:.*[-_.])?manifest|dataset_infos?|state|dataset_dict|config|metadata|schema|stats|statistics|info|index|package"
    r"|summary|version)\.json$",
    re.IGNORECASE,
)


def _without_descriptors(claims: Sequence[FormatClaim]) -> list[FormatClaim]:
    """Returns the claims without JSON documents that are one object with the name of a descriptor, beside files of rows."""
    rows = {file.name for claim in claims for file in claim.files}
    descriptors = {
        file.name
        for claim in claims
        if type(claim.adapter).__name__ == "JsonDocument"
        for file in claim.files
        if _DESCRIPTORS.match(parts(file.name)[-1])
        and io.head(file.path, 256).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"
    }
    if not descriptors or descriptors == rows:
        return list(claims)
    described = tuple((name, "an object that describes the files beside it") for name in sorted(descriptors))
    remaining = [replace(c, files=tuple(f for f in c.files if f.name not in descriptors)) for c in claims]
    return [replace(remaining[0], described=remaining[0].described + described), *remaining[1:]]


def _is_prose(adapter: Adapter) -> bool:
    return type(adapter).__name__ in _PROSE


def _is_note(file: SourceFile, stems: set[str], folders: set[str]) -> bool:
    """Whether a text is short, lies beside or above files of rows, and is not named like one of them."""
    return 0 <= file.size <= MAX_NOTE_BYTES and _stem(file) not in stems and _folder_of(file) in folders


def _stem(file: SourceFile) -> str:
    return file.name.rpartition(".")[0]


def _folder_of(file: SourceFile) -> str:
    return "/".join(parts(file.name)[:-1])


def _folders_of(file: SourceFile) -> list[str]:
    """Returns the folder of a file, and all folders above it."""
    path = parts(file.name)[:-1]
    return ["/".join(path[:end]) for end in range(len(path) + 1)]
