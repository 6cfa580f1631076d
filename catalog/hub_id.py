"""Resolves hub datasets: pins a commit, prefers a current Parquet conversion, and never runs loading scripts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from choline_data.adapters.base import Source, SourceFile
from choline_data.adapters.hub import default_config
from choline_data.adapters.reading.hub_patterns import matching
from choline_data.adapters.reading.left_out import why_left_out
from choline_data.catalog.hub_api import CONVERTED, HubDataset, HubFile, disabled_error
from choline_data.catalog.source_names import in_order
from choline_data.catalog.stated_licence import NOASSERTION
from choline_data.errors import SourceFormatError, SourceNotFoundError
from choline_data.licenses import spdx_of_stated
from choline_data.places.pins import FilePin
from choline_data.places.web_requests import log


def resolve_hub(name: str, *, revision: str = "", path: str = "", options: Mapping[str, str] | None = None) -> Source:
    """Returns the dataset `OWNER/NAME` at a commit; with `path` only the files that this pattern or folder names.

    Errors say if the dataset is gated, disabled, missing, emptied, or only a script. A dataset that was renamed is read
    under its new name, and a line on standard error says so.
    """
    dataset = HubDataset(name)
    info = dataset.info(revision)
    if info.id and str(info.id) != name:
        log.warning("%s has been renamed on the hub; its name is %s now.", name, info.id)
        dataset = HubDataset(str(info.id))
    if info.disabled:
        raise disabled_error(dataset.name)
    card = dict(info.card_data.to_dict()) if info.card_data else {}
    options = dict(options or {})
    commit, files = str(info.sha), dataset.files(str(info.sha))
    converted = "" if revision or path else _conversion(dataset, info, files)
    if converted:
        commit, files = converted, dataset.files(converted)
    if (converted or revision == CONVERTED) and not path:
        options["layout"] = "hub-parquet"
        options["default_config"] = default_config(card)
    files = _below(dataset.name, path, files) if path else files
    left_out = tuple((f.name, why) for f in files if (why := why_left_out(f.name)))
    unread = {rfilename for rfilename, _ in left_out}
    listed = sorted((f for f in files if f.name not in unread), key=lambda f: in_order(f.name))
    if not [f for f in listed if f.name.lower() != "readme.md"]:
        raise SourceNotFoundError(
            f"{dataset.name} has no data files any more." if not path else f"{dataset.name} has no files at {path}.",
            remedy="Look on its page where the data are now, or give an older --revision.",
        )
    return Source(
        f"hf://datasets/{dataset.name}" + (f"/{path}" if path else ""),
        tuple(_source_files(dataset.name, commit, listed, relative=bool(path))),
        revision=commit,
        license=spdx_of_stated(card.get("license")) or NOASSERTION,
        name=dataset.name.rsplit("/", 1)[-1],
        folder=not path or len(listed) > 1,
        options=options,
        left_out=left_out,
    )


def _conversion(dataset: HubDataset, info: Any, files: Sequence[HubFile]) -> str:
    """Returns the commit of the Parquet conversion if it is whole and not older than the dataset, otherwise "".

    Raises SourceFormatError if the dataset itself is only a loading script.
    """
    commit = dataset.conversion()
    its_files = dataset.files(commit) if commit else []
    fault = ""
    if not any(f.name.endswith(".parquet") for f in its_files):
        fault = "no parquet conversion found"
    elif any("/partial-" in f.name for f in its_files):
        fault = "a partial parquet conversion (5 GB) found"
    elif info.last_modified is not None and dataset.date_of(CONVERTED) < info.last_modified:
        fault = "its parquet conversion is older than its newest commit"
    script = dataset.name.rsplit("/", 1)[-1] + ".py"
    if fault and any(f.name == script for f in files):
        raise SourceFormatError(
            f"{dataset.name} ships a loading script, {script}, which is never run; {fault}.",
            remedy=f"Use --revision {CONVERTED} for the conversion as it is."
            if its_files
            else "Use a copy of it in Parquet, or download its data files and add the folder.",
        )
    return "" if fault else commit


def _below(name: str, path: str, files: Sequence[HubFile]) -> list[HubFile]:
    """Returns the files that the path names: one file, a folder, or a pattern."""
    chosen = {f.name for f in matching(path, [SourceFile(f.name, f.name) for f in files])}
    if not chosen:
        raise SourceNotFoundError(
            f"{name} has no files at {path}.", remedy="Check the path on the page of the dataset."
        )
    return [f for f in files if f.name in chosen]


def _source_files(name: str, commit: str, files: Sequence[HubFile], *, relative: bool) -> list[SourceFile]:
    folders = [os.path.dirname(f.name) for f in files]
    root = os.path.commonpath(folders) if relative else ""
    return [
        SourceFile(
            FilePin(f.size, f.checksum).on(f"hf://datasets/{name}@{commit}/{f.name}"),
            f.name[len(root) :].lstrip("/"),
            f.size,
            f.checksum,
        )
        for f in files
    ]
