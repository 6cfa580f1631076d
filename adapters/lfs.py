"""Handles Git LFS pointer files. Their data are read from the LFS objects of the checkout, if these exist."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from choline_data.adapters.base import FormatClaim, Source, SourceFile
from choline_data.adapters.reading.io import raw_head
from choline_data.errors import CholineDataError, SourceNotFoundError
from choline_data.places.locations import is_url

_POINTER = re.compile(
    rb"\Aversion https://(?:git-lfs\.github\.com|hawser\.github\.com)/spec/v1\n(?:ext-[^\n]*\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize (\d{1,18})\n?"
)
_SIZES = range(120, 1025)


def detect(source: Source) -> list[FormatClaim]:
    """Returns the claims for the source with the pointers replaced by their data.

    Raises SourceNotFoundError if data were not pulled.
    """
    from choline_data.adapters.registry import claims

    pointers = [(file, target) for file in source.files if (target := pointer(file)) is not None]
    if not pointers:
        return []
    there, missing = [], []
    for file, (oid, size) in pointers:
        place = _object(file, oid, size)
        if place is None:
            missing.append(file)
        else:
            there.append(replace(file, path=str(place), size=size, checksum=f"sha256:{oid}"))
    if missing:
        raise SourceNotFoundError(
            f"{missing[0].name}: LFS pointer, not pulled ({len(missing)} of {len(source.files)} files are pointers).",
            remedy="Run git lfs pull in the checkout, then add it again.",
            file=missing[0].name,
        )
    real = {file.name: file for file in there}
    data_claims, _ = claims(replace(source, files=tuple(real.get(f.name, f) for f in source.files)))
    return data_claims


def pointer(file: SourceFile) -> tuple[str, int] | None:
    """Returns the object's sha256 and size in bytes if the file is a pointer, else None."""
    if file.size not in _SIZES:
        return None
    try:
        match = _POINTER.match(raw_head(file.path, _SIZES.stop))
    except (CholineDataError, OSError):
        return None
    return (match.group(1).decode(), int(match.group(2))) if match else None


def _object(file: SourceFile, oid: str, size: int) -> Path | None:
    if is_url(file.path):
        return None
    for folder in Path(file.path).parents:
        place = folder / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4] / oid
        if place.is_file() and place.stat().st_size == size:
            return place
        if (folder / ".git").exists():
            return None
    return None
