"""Reads DVC data. `.dvc` files and `dvc.lock` name the data by MD5; the data are in the work tree, the cache or a remote."""

from __future__ import annotations

import configparser
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from choline_data.adapters.base import FormatClaim, Source, SourceFile
from choline_data.adapters.reading.io import open_raw
from choline_data.adapters.reading.splits import marked_source
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceNotFoundError
from choline_data.places.locations import check_location, filesystem, is_url, redacted
from choline_data.places.yaml_safe import safe_load

_MD5 = re.compile(r"^[0-9a-f]{32}(?:\.dir)?$")


@dataclass(frozen=True)
class _Out:
    """A file or folder that DVC tracks: its name within the source, its hash, and the DVC file that names it."""

    name: str
    md5: str
    stated_in: SourceFile


def detect(source: Source) -> list[FormatClaim]:
    """Returns the claims for the data of the targets. If data are not available, raises SourceNotFoundError with their hash."""
    from choline_data.adapters.registry import claims

    stated = [f for f in source.files if f.name.endswith(".dvc") or f.name.rsplit("/", 1)[-1] == "dvc.lock"]
    if not stated:
        return []
    present = {f.name for f in source.files}
    root, stores = _stores(stated[0])
    files: list[SourceFile] = []
    for out in [out for file in stated for out in _outs(file)]:
        if out.name in present or any(name.startswith(out.name + "/") for name in present):
            continue  # the data are checked out in the work tree
        files += _resolved(out, stores, stated)
    config = {f.name for f in source.files if ".dvc/" in f.name or f.name.endswith(".dvcignore")}
    stores_within = tuple(s.rstrip("/") + "/" for s in stores if not is_url(s))
    remaining = [f for f in source.files if f not in stated and f.name not in config]
    remaining = (
        [f for f in remaining if not os.path.abspath(f.path).startswith(stores_within)] if stores_within else remaining
    )
    named = replace(source, files=tuple(sorted([*remaining, *files], key=lambda f: f.name)), folder=True)
    data_claims, _ = claims(marked_source(named))
    left = {f.name for f in source.files} - {f.name for f in remaining}
    over = tuple((name, "DVC's own file") for name in sorted(left))
    return [*data_claims, FormatClaim(_NoRows(), (), 1.0, f"DVC at {root}", passed_over=over)]


@dataclass(frozen=True)
class _NoRows:
    """Reads no rows. Its claim only reports DVC's own files as skipped."""

    def shards(self, files: Any) -> list[Any]:
        """Returns no shards."""
        return []

    def read(self, shard: Any, *, start: int = 0) -> Iterator[Any]:
        """Yields nothing, because there are no shards."""
        return iter(())


def _outs(file: SourceFile) -> Iterator[_Out]:
    with open_raw(file.path) as opened:
        data = safe_load(opened.read(16 << 20), file.name)
    folder = PurePosixPath(file.name).parent
    outs: list[Any] = []
    if isinstance(data, dict) and isinstance(data.get("stages"), dict):
        outs = [o for stage in data["stages"].values() if isinstance(stage, dict) for o in stage.get("outs") or []]
    elif isinstance(data, dict):
        outs = data.get("outs") or []
    for out in outs:
        if not isinstance(out, dict) or not isinstance(out.get("path"), str):
            raise SourceFormatError(f"{file.name}: an output has no path.", remedy="Run dvc add again.")
        if not out.get("md5"):
            continue
        md5, path = str(out["md5"]), PurePosixPath(out["path"])
        if not _MD5.match(md5) or path.is_absolute() or ".." in path.parts:
            raise SourceFormatError(
                f"{file.name}: it contains a hash or path that DVC would not write.", remedy="Run dvc add again."
            )
        yield _Out(str(folder / path), md5, file)


def _stores(file: SourceFile) -> tuple[str, list[str]]:
    """Returns the repository's root, and the locations that may have its objects: the cache, then the remotes."""
    if is_url(file.path):
        return redacted(file.path), []
    for folder in Path(os.path.abspath(file.path)).parents:
        if (folder / ".dvc").is_dir():
            break
    else:
        return str(Path(file.path).parent), []
    stores = [str(folder / ".dvc" / "cache")]
    remotes: dict[str, str] = {}
    default = ""
    for name in ("config", "config.local"):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(folder / ".dvc" / name, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError) as error:
            raise SourceFormatError(f".dvc/{name} can't be read.", remedy="Correct it with dvc config.") from error
        default = parser.get("core", "remote", fallback=default)
        for section in parser.sections():
            match = re.fullmatch(r"""['"]?remote "([^"]+)"['"]?""", section)
            if match and parser.has_option(section, "url"):
                remotes[match.group(1)] = parser.get(section, "url")
    for name in sorted(remotes, key=lambda n: (n != default, n)):
        url = remotes[name]
        if is_url(url):
            stores.append(check_location(url))
        else:
            stores.append(os.path.normpath(folder / ".dvc" / check_location(url)))
    return folder.name, stores


def _resolved(out: _Out, stores: list[str], stated: list[SourceFile]) -> Iterator[SourceFile]:
    place = _found(out.md5, stores, out, stated)
    if not out.md5.endswith(".dir"):
        yield SourceFile(place, out.name, _verified(place, out.md5, out.name), f"md5:{out.md5}")
        return
    _verified(place, out.md5, out.name)
    with open_raw(place) as opened:
        try:
            entries = orjson.loads(opened.read(256 << 20))
            members = [(str(e["md5"]), PurePosixPath(e["relpath"])) for e in entries]
        except (orjson.JSONDecodeError, TypeError, KeyError) as error:
            raise SourceDamagedError(
                f"{out.name}: DVC's list of the folder ({out.md5}) is damaged.", remedy="Run dvc fetch again."
            ) from error
    for md5, path in sorted(members, key=lambda m: m[1]):
        if not _MD5.match(md5) or path.is_absolute() or ".." in path.parts:
            raise SourceFormatError(f"{out.name}: its list names {path}, outside it.", remedy="Run dvc add again.")
        name = f"{out.name}/{path}"
        data_file = _found(md5, stores, replace(out, name=name), stated)
        yield SourceFile(data_file, name, _verified(data_file, md5, name), f"md5:{md5}")


def _found(md5: str, stores: list[str], out: _Out, stated: list[SourceFile]) -> str:
    for store in stores:
        for path in (f"files/md5/{md5[:2]}/{md5[2:]}", f"{md5[:2]}/{md5[2:]}"):
            place = f"{store.rstrip('/')}/{path}"
            if is_url(place):
                fs: Any
                fs, within = filesystem(place)
                if fs.exists(within):
                    return place
            elif os.path.isfile(place):
                return place
    others = [f.name for f in stated if f != out.stated_in]
    leave = f", or add the others alone, as {others[0]}" if others else ""
    raise SourceNotFoundError(
        f"{out.name} is not in the DVC cache or any remote (md5 {md5}, named by {out.stated_in.name}).",
        remedy=f"Run dvc pull{leave}.",
        file=out.name,
        md5=md5,
    )


def _verified(place: str, md5: str, name: str) -> int:
    """Checks the file's MD5 and returns its size in bytes. Reads the whole file, because a remote may hold wrong content."""
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with open_raw(place) as opened:
        while piece := opened.read(1 << 20):
            digest.update(piece)
            size += len(piece)
    if digest.hexdigest() != md5.removesuffix(".dir"):
        raise SourceDamagedError(f"{name} does not have the MD5 {md5} that DVC states.", remedy="Run dvc fetch again.")
    return size
