"""The licence that a source states: README front matter, Croissant, a data package, or the text of a LICENSE file."""

from __future__ import annotations

import json
import re
from typing import Any

from choline_data.adapters.base import Source, SourceFile
from choline_data.adapters.io import open_raw
from choline_data.errors import CholineDataError
from choline_data.licenses import spdx_of
from choline_data.yaml_safe import front_matter, safe_load

NOASSERTION = "NOASSERTION"
_LIMIT = 1 << 20
_LICENSE_FILE = re.compile(r"^(?:licen[cs]e|copying|unlicense)(?:[.-][\w.-]+)?$", re.IGNORECASE)
_DESCRIPTORS = ("croissant.json", "metadata.json", "datapackage.json", "datapackage.yml", "datapackage.yaml")
# A licence's text, by words that only it has, the more particular first.
_TEXTS: tuple[tuple[str, str], ...] = (
    (r"apache license,?\s+version 2\.0", "Apache-2.0"),
    (r"permission is hereby granted, free of charge.{0,2000}the software is provided \"as is\"", "MIT"),
    (r"redistribution and use in source and binary forms.{0,1500}neither the name", "BSD-3-Clause"),
    (r"redistribution and use in source and binary forms", "BSD-2-Clause"),
    (r"gnu affero general public license\s+version 3", "AGPL-3.0-only"),
    (r"gnu lesser general public license\s+version 3", "LGPL-3.0-only"),
    (r"gnu general public license\s+version 3", "GPL-3.0-only"),
    (r"gnu general public license\s+version 2", "GPL-2.0-only"),
    (r"mozilla public license,? version 2\.0", "MPL-2.0"),
    (r"cc0 1\.0 universal", "CC0-1.0"),
    (r"attribution-noncommercial-sharealike 4\.0", "CC-BY-NC-SA-4.0"),
    (r"attribution-noncommercial-noderivatives 4\.0", "CC-BY-NC-ND-4.0"),
    (r"attribution-noncommercial 4\.0", "CC-BY-NC-4.0"),
    (r"attribution-sharealike 4\.0", "CC-BY-SA-4.0"),
    (r"attribution-sharealike 3\.0", "CC-BY-SA-3.0"),
    (r"attribution-noderivatives 4\.0", "CC-BY-ND-4.0"),
    (r"attribution 4\.0 international", "CC-BY-4.0"),
    (r"attribution 3\.0", "CC-BY-3.0"),
    (r"odc public domain dedication and licen[cs]e", "PDDL-1.0"),
    (r"odc attribution license", "ODC-By-1.0"),
    (r"open database license", "ODbL-1.0"),
    (r"free and unencumbered software released into the public domain", "Unlicense"),
)


def license_of(source: Source) -> str:
    """The SPDX id of what the source states at its top level, or NOASSERTION."""
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


def spdx_of_text(text: str) -> str:
    """The licence whose text this is, or ''."""
    plain = re.sub(r"[ \t\r\n]+", " ", text.lower())[:20_000]
    return next((spdx for pattern, spdx in _TEXTS if re.search(pattern, plain)), "")


def spdx_of_stated(stated: Any) -> str:
    """The id for a publisher's word, URL, object or list of these; '' where it says nothing."""
    if isinstance(stated, list):
        ids = list(dict.fromkeys(filter(None, map(spdx_of_stated, stated))))
        return " AND ".join(ids)
    if isinstance(stated, dict):
        return next((s for k in ("name", "@id", "url", "path", "title") if (s := spdx_of_stated(stated.get(k)))), "")
    if not isinstance(stated, str) or not stated.strip():
        return ""
    web = re.search(r"creativecommons\.org/(?:licenses|publicdomain)/([a-z-]+)/([0-9.]+)", stated)
    if web:
        stated = "CC0-1.0" if web.group(1) == "zero" else f"CC-{web.group(1).upper()}-{web.group(2)}"
    found = spdx_of(stated)
    return "" if found == NOASSERTION else found


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
