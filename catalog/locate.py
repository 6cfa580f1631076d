"""Turns a location (a path, folder, glob, brace set, URL or hub id) into a `Source` with its files and their sizes.

Files are sorted by name, but a brace set keeps its written order. Names are relative to the source's root, with '/' as
separator. Only regular files count. A link that leads out of the root is refused, because its target is not part of the
source.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

from choline_data.adapters.base import Source, SourceFile
from choline_data.adapters.reading.left_out import why_left_out
from choline_data.adapters.reading.names import in_utf8
from choline_data.catalog.source_names import in_order
from choline_data.catalog.stated_licence import license_of
from choline_data.errors import (
    ForbiddenLocationError,
    PermissionDeniedError,
    SourceNotFoundError,
    SourceTooLargeError,
    one_line,
)
from choline_data.places.downloads import persistently
from choline_data.places.locations import check_location, filesystem, is_url, redacted
from choline_data.places.web_files import request_pin

MAX_FILES = 2_000_000
MAX_BRACES = 100_000
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")
_FILE_LIKE = re.compile(
    r"\.(?:jsonl?|csv|tsv|txt|parquet|arrow|feather|tar|tgz|zip|gz|zst|bz2|xz|db|sqlite|md|xml|yaml)$"
)
_HUB_PAGE = re.compile(r"^https://huggingface\.co/datasets/([^/?#]+/[^/?#]+)/?(?:tree/([^/?#]+)/?)?$")
_HUB_URL = re.compile(
    r"^hf://datasets/([\w.-]+/[\w.-]+)(?:@(refs/(?:convert|pr)/[^/]+|[^/]+))?/*(?:/(.*))?$", re.ASCII | re.DOTALL
)
_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass
class _Listing:
    """The files of a location, and the files that are left out with their reasons."""

    files: list[SourceFile] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def source(self, location: str, name: str, *, folder: bool) -> Source:
        """Returns the listed files as a source."""
        return Source(location, tuple(self.files), name=name, folder=folder, left_out=tuple(self.left_out))


def resolve(location: str, *, revision: str = "", options: Mapping[str, str] | None = None) -> Source:
    """Returns the source at `location`. `options` choose and name its splits and configs.

    Raises SourceNotFoundError, with a remedy, if there is nothing to read.
    """
    location = location.strip()
    check_location(location)
    wishes = {key: value for key, value in (options or {}).items() if value}
    hub = _hub_place(location)
    if hub is not None:
        from choline_data.catalog.hub_id import resolve_hub

        name, pinned, path = hub
        return resolve_hub(name, revision=revision or pinned, path=path, options=wishes)
    if is_url(location) and not location.lower().startswith("file://"):
        source = _remote(location)
    else:
        source = _local(_local_path(location))
    source = replace(source, revision=revision, options={**source.options, **wishes})
    return replace(source, license=license_of(source))


def expand_braces(pattern: str) -> list[str]:
    """Returns the names of a brace set, in the order written: `a-{000..127}.tar`, `{train,test}.csv`."""
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    body = match.group(1)
    span = re.fullmatch(r"(\d+)\.\.(\d+)", body)
    if span:
        low, high = int(span.group(1)), int(span.group(2))
        if abs(high - low) >= MAX_BRACES:
            raise SourceTooLargeError(f"The set {{{body}}} has over {MAX_BRACES:,} names.", remedy="Name fewer files.")
        width = len(span.group(1)) if span.group(1).startswith("0") or len(span.group(1)) > 1 else 0
        words = [f"{n:0{width}d}" for n in range(low, high + 1)]
    elif "," in body:
        words = body.split(",")
    else:
        return [pattern]
    names = [pattern[: match.start()] + word + rest for word in words for rest in expand_braces(pattern[match.end() :])]
    if len(names) > MAX_BRACES:
        raise SourceTooLargeError(
            f"{one_line(pattern, 80)!r} has over {MAX_BRACES:,} names.", remedy="Name fewer files."
        )
    return names


def _hub_place(location: str) -> tuple[str, str, str] | None:
    """Returns (OWNER/NAME, revision, path) if the location names a hub dataset or files of one, otherwise None."""
    page = _HUB_PAGE.match(location)
    if page:
        return page.group(1), page.group(2) or "", ""
    if location.startswith("hf://datasets/"):
        place = _HUB_URL.match(location)
        return (place[1], unquote(place[2] or ""), (place[3] or "").strip("/")) if place else None
    name, _, revision = location.partition("@")
    if is_url(location) or not _HUB_ID.match(name) or os.path.lexists(location) or _FILE_LIKE.search(location):
        return None
    return None if os.path.isdir(location.split("/", 1)[0]) else (name, revision, "")


def _local_path(location: str) -> str:
    if location.lower().startswith("file://"):
        parts = urlsplit(location)
        if parts.netloc not in ("", "localhost"):
            raise ForbiddenLocationError(
                f"{redacted(location)} names another host.",
                remedy="Give file:///path, or copy the files here.",
            )
        return unquote(parts.path)
    return os.path.expanduser(location)


def _local(path: str) -> Source:
    if os.path.lexists(path):
        return _local_folder(path) if os.path.isdir(path) else _local_files(path, [path], folder=False)
    if not re.search(r"[*?\[{]", path):
        raise SourceNotFoundError(
            f"{path}: there is no such file or folder.", remedy="Check the path; a hub dataset is OWNER/NAME."
        )
    paths: list[str] = []
    left_out: list[tuple[str, str]] = []
    for name in expand_braces(path):
        matches = _glob(name, left_out) if re.search(r"[*?\[]", name) else [name] if os.path.isfile(name) else []
        if not matches and "{" in path:
            raise SourceNotFoundError(
                f"{name} does not exist, although the set {path} names it.",
                remedy="Name only files that exist.",
            )
        paths += matches
    if not paths:
        raise SourceNotFoundError(f"{path}: no file matches.", remedy="Quote the pattern and check the folder.")
    return replace(_local_files(path, paths, folder=True), left_out=tuple(left_out))


def _glob(pattern: str, left_out: list[tuple[str, str]]) -> list[str]:
    """Returns the files that match the pattern, in order. Files that are never data are added to `left_out` instead."""
    import glob

    fixed = os.path.dirname(re.split(r"[*?\[]", pattern, maxsplit=1)[0])
    files = []
    for name in sorted((n for n in glob.iglob(pattern, recursive=True) if os.path.isfile(n)), key=in_order):
        short = os.path.relpath(name, fixed or ".").replace(os.sep, "/")
        if reason := why_left_out(short):
            left_out.append((short, reason))
        else:
            files.append(name)
    return files


def _local_files(location: str, paths: list[str], *, folder: bool) -> Source:
    absolute = [os.path.abspath(p) for p in paths]
    root = (
        os.path.dirname(absolute[0])
        if len(absolute) == 1
        else os.path.commonpath([os.path.dirname(p) for p in absolute])
    )
    files = []
    for path in dict.fromkeys(absolute):
        try:
            status = os.stat(path)
        except OSError as error:
            raise _link_error(path, error) from error
        if not stat.S_ISREG(status.st_mode):
            raise ForbiddenLocationError(f"{path} is not a regular file.", remedy="Name a file or a folder of files.")
        files.append(SourceFile(path, in_utf8(os.path.relpath(path, root).replace(os.sep, "/")), status.st_size))
    return Source(location, tuple(files), name=_name_of(location), folder=folder)


def _local_folder(path: str) -> Source:
    root = os.path.abspath(path)
    listing = _walk(root, _bound_of(root))
    if not listing.files:
        raise SourceNotFoundError(
            f"{path}: the folder holds no files{_left_out_in_words(listing)}.", remedy="Name a folder that holds data."
        )
    listing.files.sort(key=lambda f: in_order(f.name))
    listing.left_out.sort()
    return listing.source(path, _name_of(root), folder=True)


def _left_out_in_words(listing: _Listing) -> str:
    if not listing.left_out:
        return ""
    name, reason = min(listing.left_out)
    return f" of data; {len(listing.left_out)} are left out, such as {one_line(name, 80)} ({reason})"


def _walk(root: str, bound: str) -> _Listing:
    """Returns the files below `root`. Links to folders are not followed."""
    listing = _Listing()
    pending = [(root, "")]
    while pending:
        here, before = pending.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda e: e.name)
        except PermissionError as error:
            raise PermissionDeniedError(f"{here} may not be read.", remedy="Change its permissions.") from error
        for entry in entries:
            name = before + entry.name
            if (reason := why_left_out(name)) and entry.name != ".dvc":
                folder = "/" if entry.is_dir(follow_symlinks=False) else ""
                listing.left_out.append((in_utf8(name) + folder, reason))
            elif entry.is_symlink() and not _is_inside(entry, name, bound):
                continue  # the files of the linked folder are listed at their real place
            elif entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, name + "/"))
            else:
                _add(listing, entry.path, name)
    return listing


def _add(listing: _Listing, path: str, name: str) -> None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        listing.left_out.append((in_utf8(name), "not a regular file"))
        return
    listing.files.append(SourceFile(path, in_utf8(name), status.st_size))
    if len(listing.files) > MAX_FILES:
        raise SourceTooLargeError(
            f"The folder holds over {MAX_FILES:,} files at {path}.", remedy="Add its folders one by one."
        )


def _is_inside(entry: os.DirEntry[str], name: str, bound: str) -> bool:
    """Whether a link leads to a file inside the source. Raises an error if it leads out of it, or nowhere."""
    real = os.path.realpath(entry.path)
    if os.path.commonpath([real, bound]) != bound:
        raise ForbiddenLocationError(
            f"{name} is a link that leads out of the folder, to {real}.",
            remedy="Copy the target of the link into the folder, or remove the link.",
        )
    if os.path.isdir(real):
        return False
    if not os.path.exists(real):
        raise _link_error(entry.path, None)
    return True


def _bound_of(root: str) -> str:
    """Returns the folder that links must not leave: the root. For a snapshot in the hub's cache, the folder of the repository."""
    real = os.path.realpath(root)
    cache = re.match(r"^(.*/(?:datasets|models)--[^/]+)/snapshots/[^/]+(?:/|$)", real)
    return cache.group(1) if cache else real


def _link_error(path: str, error: OSError | None) -> SourceNotFoundError:
    target = os.readlink(path) if os.path.islink(path) else ""
    fault = f" is a link to {target}, which is not there" if target else " can't be read"
    annex = " Run git annex get." if ".git/annex" in target else ""
    return SourceNotFoundError(f"{path}{fault}.", remedy=f"Fetch it, or remove the link.{annex}")


def _name_of(location: str) -> str:
    """Returns the dataset name derived from the location."""
    path = urlsplit(location).path if is_url(location) else location
    parts = [p for p in re.split(r"[\\/]", path) if p and not re.search(r"[*?\[{]", p)]
    stem = parts[-1] if parts else "dataset"
    while True:
        shorter = re.sub(r"\.(?:[A-Za-z][A-Za-z0-9]{0,7}|bz2)$", "", stem)
        if shorter == stem or not shorter:
            return stem
        stem = shorter


def _remote(location: str) -> Source:
    files = _web_files(location) if _is_http(location) else persistently(location, lambda: _remote_files(location))
    if not files:
        raise SourceNotFoundError(f"{redacted(location)}: there are no files.", remedy="Check the address.")
    names = sorted(files)
    root = os.path.commonpath([os.path.dirname(n) for n in names]) if len(names) > 1 else os.path.dirname(names[0])
    listing = _Listing()
    for name in names:
        info = files[name]
        short = name[len(root) :].lstrip("/") or os.path.basename(name)
        short = unquote(urlsplit(short).path) if "?" in short else short
        if len(names) > 1 and (reason := why_left_out(short)):
            listing.left_out.append((short, reason))
            continue
        stated = info.get("size")
        size = -1 if stated is None else int(stated)
        listing.files.append(SourceFile(info["place"], short, size, _checksum(info)))
    listing.files.sort(key=lambda f: in_order(f.name))
    return listing.source(redacted(location), _name_of(redacted(location)), folder=len(listing.files) > 1)


def _is_http(location: str) -> bool:
    return location.lower().startswith(("http://", "https://"))


def _web_files(path: str) -> dict[str, dict[str, Any]]:
    """Requests the size and validators of each URL of a brace set. They are pinned for the whole `add`."""
    files: dict[str, dict[str, Any]] = {}
    for name in expand_braces(path):
        place = urldefrag(name).url
        pin = persistently(place, partial(request_pin, place))
        files[place] = {"size": pin.size, "etag": pin.etag, "place": pin.on(place)}
    return files


def _remote_files(location: str) -> dict[str, dict[str, Any]]:
    """Requests size and validators of each file at the location from the object store."""
    fs: Any
    fs, path = filesystem(location)
    files: dict[str, dict[str, Any]] = {}
    if re.search(r"[*?\[{]", path):
        for name in expand_braces(path):
            files |= fs.glob(name, detail=True)
        files = {name: info for name, info in files.items() if info.get("type") == "file"}
    else:
        files = dict(fs.find(path, detail=True)) if fs.isdir(path) else {path: fs.info(path)}
    return {name: {**info, "place": str(fs.unstrip_protocol(name))} for name, info in files.items()}


def _checksum(info: dict[str, Any]) -> str:
    for key in ("sha256", "md5", "md5Hash", "ETag", "etag"):
        if info.get(key):
            return f"{key.lower().removesuffix('hash')}:{str(info[key]).strip(chr(34))}"
    return ""
