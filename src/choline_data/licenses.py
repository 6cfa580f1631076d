"""Licences: maps a publisher's licence names to SPDX ids, and each id to a class, from permissive to unknown.

A class is a coarse category for filters (`license:permissive`). It is not legal advice. `AND` gives an expression the
strictest class of its licences, `OR` the freest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

NOASSERTION: Final = "NOASSERTION"
MIXED: Final = "mixed"

CLASSES: Final = (
    "permissive",
    "attribution",
    "share-alike",
    "non-commercial",
    "no-derivatives",
    "no-redistribution",
    "unknown",
)

_PERMISSIVE = (
    "0BSD",
    "AFL-3.0",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "ECL-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MS-PL",
    "NCSA",
    "PDDL-1.0",
    "PostgreSQL",
    "Python-2.0",
    "Unlicense",
    "WTFPL",
    "Zlib",
    "LicenseRef-public-domain",
    "LicenseRef-BSD",
)
_ATTRIBUTION = (
    "C-UDA-1.0",
    "etalab-2.0",
    "ODC-By-1.0",
    "OGL-UK-3.0",
)
_SHARE_ALIKE = (
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "CDLA-Sharing-1.0",
    "EPL-1.0",
    "EPL-2.0",
    "EUPL-1.1",
    "EUPL-1.2",
    "GFDL-1.2-or-later",
    "GFDL-1.3-or-later",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "LPPL-1.3c",
    "MPL-2.0",
    "ODbL-1.0",
    "OFL-1.1",
    "OSL-3.0",
)
_NON_COMMERCIAL = (
    "LicenseRef-academic-only",
    "LicenseRef-ImageNet-Terms",
)
_NO_REDISTRIBUTION = (
    "LicenseRef-LMSYS-Chat-1M",
    "LicenseRef-NVIDIA-Data-Agreement-Model-Training",
)
_CREATIVE_COMMONS = (
    "CC-BY-2.0",
    "CC-BY-2.5",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC-BY-NC-2.0",
    "CC-BY-NC-3.0",
    "CC-BY-NC-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-NC-ND-3.0",
    "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-2.0",
    "CC-BY-NC-SA-3.0",
    "CC-BY-NC-SA-4.0",
)

_CLASS_OF: Final = {
    spdx.lower(): kind
    for kind, ids in {
        "permissive": _PERMISSIVE,
        "attribution": _ATTRIBUTION,
        "share-alike": _SHARE_ALIKE,
        "non-commercial": _NON_COMMERCIAL,
        "no-redistribution": _NO_REDISTRIBUTION,
    }.items()
    for spdx in ids
}
_SPDX_OF_LOWER: Final = {
    spdx.lower(): spdx
    for spdx in (
        *_PERMISSIVE,
        *_ATTRIBUTION,
        *_SHARE_ALIKE,
        *_NON_COMMERCIAL,
        *_NO_REDISTRIBUTION,
        *_CREATIVE_COMMONS,
        NOASSERTION,
        MIXED,
    )
}
# The hub's own licence names that are not SPDX ids in any letter case.
_HUB: Final = {
    "": NOASSERTION,
    "other": NOASSERTION,
    "unknown": NOASSERTION,
    "none": NOASSERTION,
    "array": MIXED,
    "odc-by": "ODC-By-1.0",
    "odbl": "ODbL-1.0",
    "pddl": "PDDL-1.0",
    "c-uda": "C-UDA-1.0",
    "cc": "LicenseRef-CC",
    "cc0": "CC0-1.0",
    "cc-by": "LicenseRef-CC-BY",
    "cc-by-sa": "LicenseRef-CC-BY-SA",
    "cc-by-nc": "LicenseRef-CC-BY-NC",
    "cc-by-nc-sa": "LicenseRef-CC-BY-NC-SA",
    "bsd": "LicenseRef-BSD",
    "gfdl": "GFDL-1.3-or-later",
    "gpl": "GPL-3.0-or-later",
    "gpl-2.0": "GPL-2.0-only",
    "gpl-3.0": "GPL-3.0-only",
    "lgpl": "LGPL-3.0-or-later",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-3.0": "LGPL-3.0-only",
    "agpl-3.0": "AGPL-3.0-only",
    "public-domain": "LicenseRef-public-domain",
    "openrail": "LicenseRef-OpenRAIL",
    "openrail++": "LicenseRef-OpenRAIL-plus-plus",
    "bigscience-openrail-m": "LicenseRef-BigScience-OpenRAIL-M",
    "creativeml-openrail-m": "LicenseRef-CreativeML-OpenRAIL-M",
    "bigcode-openrail-m": "LicenseRef-BigCode-OpenRAIL-M",
    "llama2": "LicenseRef-Llama-2-Community",
    "llama3": "LicenseRef-Llama-3-Community",
    "llama3.1": "LicenseRef-Llama-3.1-Community",
    "llama3.2": "LicenseRef-Llama-3.2-Community",
    "llama3.3": "LicenseRef-Llama-3.3-Community",
    "gemma": "LicenseRef-Gemma-Terms",
}
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*\Z")
_JOINERS = re.compile(r"\s+(AND|OR|WITH)\s+", re.IGNORECASE)


def spdx_of(name: str) -> str:
    """Returns the SPDX id or expression for a publisher's licence name: `odc-by` is `ODC-By-1.0`, `other` is `NOASSERTION`.

    An id that this module does not know keeps its spelling. A text that cannot be an id is `NOASSERTION`.
    """
    text = " ".join(name.split())
    parts = _JOINERS.split(text)
    if len(parts) > 1:
        ids = [part.upper() if place % 2 else _bracketed(part) for place, part in enumerate(parts)]
        return " ".join(ids) if NOASSERTION not in ids else NOASSERTION
    return _one(text)


def licenses_in(expression: str) -> tuple[str, ...]:
    """Returns the licences that an expression names, in order: `MIT OR Apache-2.0` names two."""
    parts = _JOINERS.split(expression.replace("(", " ").replace(")", " ").strip())
    return tuple(part.strip() for part in parts[::2] if part.strip())


def license_class(spdx: str) -> str:
    """Returns the class of a licence id or expression, one of `CLASSES`; `unknown` if the licence is not known here."""
    offers = re.split(r"\s+OR\s+", spdx.strip())
    if len(offers) > 1 and "(" not in spdx:
        return freest(license_class(offer) for offer in offers)
    return strictest(_class_of_one(part) for part in licenses_in(spdx))


def strictest(classes: Iterable[str]) -> str:
    """Returns the class furthest from permissive; `unknown` if there are no classes."""
    return max(classes, key=CLASSES.index, default="unknown")


def freest(classes: Iterable[str]) -> str:
    """Returns the class nearest to permissive; `unknown` if there are no classes."""
    return min(classes, key=CLASSES.index, default="unknown")


def _bracketed(part: str) -> str:
    inner = part.strip("() ")
    return part.replace(inner, _one(inner)) if inner else NOASSERTION


def _one(text: str) -> str:
    key = text.lower()
    if key in _HUB:
        return _HUB[key]
    if key in _SPDX_OF_LOWER:
        return _SPDX_OF_LOWER[key]
    return text if _TOKEN.match(text) else NOASSERTION


def _class_of_one(spdx: str) -> str:
    key = spdx.lower()
    if key in _CLASS_OF:
        return _CLASS_OF[key]
    terms = key.removeprefix("licenseref-").split("-")
    if terms[:2] != ["cc", "by"]:
        return "unknown"
    if "nd" in terms:
        return "no-derivatives"
    if "nc" in terms:
        return "non-commercial"
    return "share-alike" if "sa" in terms else "attribution"


# Patterns that recognise a licence by its text. The first pattern that matches is used, so a more specific one comes
# before a general one.
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


def spdx_of_text(text: str) -> str:
    """Returns the SPDX id of the licence with this text, or '' if no pattern matches."""
    plain = re.sub(r"[ \t\r\n]+", " ", text.lower())[:20_000]
    return next((spdx for pattern, spdx in _TEXTS if re.search(pattern, plain)), "")


def spdx_of_stated(stated: Any) -> str:
    """Returns the SPDX id or expression for a publisher's licence name, URL, object or a list of these. '' if none can be read.

    The ids of a list are joined with `AND`.
    """
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
    spdx = spdx_of(stated)
    return "" if spdx == NOASSERTION else spdx
