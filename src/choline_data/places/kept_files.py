"""The download folder: it keeps remote files while an `add` reads them.

A file is kept only if its checksum is known, because its name is computed from its address and its pin (size and
checksum). So every process finds it under this name. Deleting the folder costs only the time to download again.
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
    """Returns the path of the file in the download folder, whether it is there yet or not. Returns None if its checksum
    is not known.
    """
    _, pin = without_pin(location)
    if not pin.checksum or pin.size < 0:
        return None
    digest = hashlib.sha256(location.encode()).hexdigest()
    return kept_folder() / "files" / digest[:2] / digest


def kept_copy(location: str) -> Path | None:
    """Returns the path of the downloaded file, or None if it is not there."""
    name = kept_name(location)
    return name if name is not None and name.is_file() else None
