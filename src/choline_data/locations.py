"""Where bytes may come from: paths and URLs, checked before fsspec sees a string, then opened through fsspec."""

from __future__ import annotations

import os
import re
from typing import BinaryIO, cast
from urllib.parse import urlsplit

from choline_data.errors import ForbiddenLocationError, MissingDependencyError

# Schemes that read one named thing. fsspec knows 55 more, and chains; `simplecache::file:///etc/hostname` is one.
SCHEMES = frozenset({"file", "http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "memory"})
EXTRAS = {"s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "hf": "hub",
          "http": "http", "https": "http"}
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")


def redacted(location: str) -> str:
    """The location without user, password, query and fragment: fit for errors, logs and manifests."""
    if "://" not in location:
        return location
    parts = urlsplit(location)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def is_url(location: str) -> bool:
    """Whether this names a scheme; a Windows drive letter does not."""
    match = _SCHEME.match(location)
    return bool(match and len(match.group(1)) > 1 and "://" in location)


def check_location(location: str) -> str:
    """`location`, where its form is allowed: a plain path, or one URL of a known scheme; no chains, no NUL."""
    if "\x00" in location or "::" in location:
        raise ForbiddenLocationError(
            f"{redacted(location)!r} is a chain of file systems or holds a NUL byte.",
            remedy="Give one path or one URL; archives are opened by their content.",
        )
    if not is_url(location):
        return location
    scheme = location.split(":", 1)[0].lower()
    if scheme not in SCHEMES:
        raise ForbiddenLocationError(
            f"The scheme {scheme!r} is not allowed.", remedy=f"Allowed: {', '.join(sorted(SCHEMES))}."
        )
    return location


def filesystem(location: str) -> tuple[object, str]:
    """The fsspec file system of a checked location, and the path within it."""
    import fsspec

    check_location(location)
    try:
        fs, path = fsspec.core.url_to_fs(location)
    except ImportError as error:
        scheme = location.split(":", 1)[0].lower()
        raise MissingDependencyError(EXTRAS.get(scheme, "all"), f"Reading {scheme}:// URLs") from error
    return fs, path


def open_location(location: str) -> BinaryIO:
    """The file for reading. Local paths are opened directly: only regular files, never a device or a FIFO."""
    check_location(location)
    if not is_url(location) or location.startswith("file://"):
        path = location.removeprefix("file://")
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        import stat

        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ForbiddenLocationError(f"{path} is not a regular file.", remedy="Name a file or a folder of files.")
        return os.fdopen(fd, "rb")
    fs, path = filesystem(location)
    return cast(BinaryIO, fs.open(path, "rb"))  # type: ignore[attr-defined]
