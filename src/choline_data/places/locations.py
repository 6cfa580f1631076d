"""Paths and URLs of source files. Each is checked before fsspec gets it, then opened through fsspec."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from choline_data.errors import ForbiddenLocationError, MissingDependencyError

# Schemes that each read one named file or object. fsspec also accepts 55 other schemes, and chains of schemes such as
# `simplecache::file:///etc/hostname`.
SCHEMES = frozenset({"file", "http", "https", "s3", "gs", "gcs", "az", "abfs", "abfss", "hf", "memory"})
EXTRAS = {
    "s3": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "hf": "hub",
    "http": "http",
    "https": "http",
}
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")


def redacted(location: str) -> str:
    """Returns the location without user, password, query and fragment: safe for errors, logs and manifests."""
    if "://" not in location:
        return location
    try:
        parts = urlsplit(location)
        _ = parts.port
    except ValueError:
        return location.split("://", 1)[0] + "://…"
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"


def is_url(location: str) -> bool:
    """Whether the location is a URL with a scheme. A Windows drive letter is not a scheme."""
    match = _SCHEME.match(location)
    return bool(match and len(match.group(1)) > 1 and "://" in location)


def check_location(location: str) -> str:
    """Returns `location` if it is a plain path or one URL of a known scheme; raises ForbiddenLocationError otherwise.

    Chains of file systems, commands, NUL and line breaks are refused. Nothing is opened or resolved.
    """
    if any(c in location for c in "\x00\r\n") or "::" in location.split("://[", 1)[0] or location.startswith("|"):
        raise ForbiddenLocationError(
            f"{redacted(location)!r} chains file systems, is a command, or contains a control character.",
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


def local_path(location: str) -> str | None:
    """Returns the path on this machine, or None for a remote location."""
    if location.startswith("file://"):
        return location.removeprefix("file://")
    return None if is_url(location) else location


def filesystem(location: str) -> tuple[object, str]:
    """Returns the fsspec file system of a checked location, and the path within it."""
    import fsspec

    check_location(location)
    scheme = location.split(":", 1)[0].lower()
    try:
        fs, path = fsspec.core.url_to_fs(location, **_options(scheme))
    except ImportError as error:
        raise MissingDependencyError(EXTRAS.get(scheme, "all"), f"Reading {scheme}:// URLs") from error
    return fs, path


def _options(scheme: str) -> dict[str, object]:
    if scheme == "hf" and os.environ.get("HF_ENDPOINT"):
        return {"endpoint": os.environ["HF_ENDPOINT"]}
    if scheme not in ("http", "https"):
        return {}
    import aiohttp

    # The total time of a download has no limit. The time in which the server sends nothing has one.
    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}}
