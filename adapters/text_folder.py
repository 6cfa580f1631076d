"""Reads a folder of texts with JSON or YAML sidecars. The sidecars describe the texts and are not samples."""

from __future__ import annotations

import re

from choline_data.adapters import text
from choline_data.adapters.base import FormatClaim, Source, SourceFile
from choline_data.adapters.reading.media import suffix_of
from choline_data.adapters.reading.names import is_about, parts

ADAPTER = text.Text
_SIDECAR = re.compile(r"^(?P<of>.+?)[-_.](metadata|meta|info)\.(json|ya?ml)$", re.IGNORECASE)


def detect(source: Source) -> list[FormatClaim]:
    """Claims texts if all other data files are sidecars named after them (`1342-metadata.json` for `1342-0.txt`)."""
    others = [f for f in source.files if not is_about(f.name)]
    texts = [f for f in others if suffix_of(f.name) in ("txt", "text", "md", "rst")]
    sidecars = [f for f in others if _describes(f, texts)]
    if not sidecars or len(texts) + len(sidecars) < len(others):
        return []
    about = tuple(f for f in source.files if f not in others)
    claims = text.detect(Source(source.location, (*texts, *about), folder=True))
    passed = tuple((f.name, "metadata of the text beside it") for f in sidecars)
    if not claims:
        return []
    from dataclasses import replace

    return [replace(claims[0], described=claims[0].described + passed), *claims[1:]]


def _describes(file: SourceFile, texts: list[SourceFile]) -> bool:
    match = _SIDECAR.match(parts(file.name)[-1])
    return match is not None and any(parts(t.name)[-1].startswith(match["of"]) for t in texts)
