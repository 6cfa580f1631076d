"""The licence that a source states: README front matter, Croissant, a data package, or the text of a LICENSE file."""

from __future__ import annotations

import json
import re

from choline_data.adapters.base import Source, SourceFile
from choline_data.adapters.reading.io import open_raw
from choline_data.errors import CholineDataError
from choline_data.licenses import spdx_of_stated, spdx_of_text
from choline_data.places.yaml_safe import front_matter, safe_load

NOASSERTION = "NOASSERTION"
_LIMIT = 1 << 20
_LICENSE_FILE = re.compile(r"^(?:licen[cs]e|copying|unlicense)(?:[.-][\w.-]+)?$", re.IGNORECASE)
_DESCRIPTORS = ("croissant.json", "metadata.json", "datapackage.json", "datapackage.yml", "datapackage.yaml")


def license_of(source: Source) -> str:
    """Returns the SPDX id of the licence that the source states at its top level, or NOASSERTION."""
    top = {f.name.lower(): f for f in source.files if "/" not in f.name}
    stated = ""
    if "readme.md" in top:
        stated = _readme(top["readme.md"])
    for name in _DESCRIPTORS:
        if not stated and name in top:
            stated = _descriptor(top[name])
    for name in sorted(top):
        if not stated and _LICENSE_FILE.match(name):
            stated = spdx_of_text(_text(top[name]))
    return stated or NOASSERTION


def _readme(file: SourceFile) -> str:
    try:
        return spdx_of_stated(front_matter(_text(file), file.name).get("license"))
    except CholineDataError:
        return ""


def _descriptor(file: SourceFile) -> str:
    try:
        text = _text(file)
        data = json.loads(text) if file.name.lower().endswith("json") else safe_load(text, file.name)
    except (CholineDataError, ValueError, RecursionError):
        return ""
    if not isinstance(data, dict):
        return ""
    return spdx_of_stated(data.get("license") or data.get("licenses") or data.get("sc:license"))


def _text(file: SourceFile) -> str:
    with open_raw(file.path) as opened:
        return opened.read(_LIMIT).decode("utf-8", "replace")
