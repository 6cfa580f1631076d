"""The folder where remote files are kept while an `add` reads them.

A file is kept only if its checksum is known, so its name can be computed from its address and its pin. Every process finds it
under this name. Deleting the folder loses nothing but time.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from choline_data.places.pins import without_pin


def kept_folder() -> Path:
    """Returns `CHOLINE_DATA_CACHE`, else `~/.cache/choline-data` (or below `XDG_CACHE_HOME`)."""
    stated = os.environ.get("CHOLINE_DATA_CACHE")
    if stated:
        return Path(stated)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "choline-data"


def kept_name(location: str) -> Path | None:
    """Returns where the file is or will be kept. None if its checksum is not known."""
    _, pin = without_pin(location)
    if not pin.checksum or pin.size < 0:
        return None
    digest = hashlib.sha256(location.encode()).hexdigest()
    return kept_folder() / "files" / digest[:2] / digest


def kept_copy(location: str) -> Path | None:
    """Returns the kept file, or None."""
    name = kept_name(location)
    return name if name is not None and name.is_file() else None
