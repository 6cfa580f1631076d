"""Asks the hub about a dataset: its commit, its files and its Parquet conversion. Each failure becomes one typed error."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from choline_data.errors import (
    CholineDataError,
    MissingDependencyError,
    PermissionDeniedError,
    SourceNotFoundError,
    UnavailableError,
)
from choline_data.places.downloads import persistently

CONVERTED = "refs/convert/parquet"
T = TypeVar("T")


@dataclass(frozen=True)
class HubFile:
    """A file of a hub dataset. `checksum` is `sha256:…` of the content, or `git:…`, the hash of its git blob."""

    name: str
    size: int
    checksum: str


class HubDataset:
    """A dataset of the hub: requests its properties from the hub's API."""

    def __init__(self, name: str) -> None:
        try:
            from huggingface_hub import HfApi
        except ImportError as error:
            raise MissingDependencyError("hub", "Reading hub datasets") from error
        self.name = name
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)

    def info(self, revision: str = "") -> Any:
        """Returns the hub's description of the dataset at a revision, as a `huggingface_hub.DatasetInfo`."""
        return self._ask(lambda: self._api.dataset_info(self.name, revision=revision or None), revision)

    def conversion(self) -> str:
        """Returns the commit of the Parquet conversion, or ""."""
        refs = self._ask(lambda: self._api.list_repo_refs(self.name, repo_type="dataset"))
        return next((str(ref.target_commit) for ref in refs.converts if ref.ref == CONVERTED), "")

    def date_of(self, revision: str) -> Any:
        """Returns the time of the newest commit of a revision."""
        ask = self._api.list_repo_commits
        commits = self._ask(lambda: ask(self.name, repo_type="dataset", revision=revision), revision)
        return max((commit.created_at for commit in commits), default=None)

    def files(self, revision: str) -> list[HubFile]:
        """Returns all files of a revision. One request lists 1,000 of them."""
        from huggingface_hub.hf_api import RepoFile

        ask = self._api.list_repo_tree
        entries = self._ask(
            lambda: list(ask(self.name, recursive=True, revision=revision, repo_type="dataset")), revision
        )
        return [_file(entry) for entry in entries if isinstance(entry, RepoFile)]

    def _ask(self, ask: Callable[[], T], revision: str = "") -> T:
        return persistently(self.name, ask, convert=lambda error: hub_error(self.name, revision, error))


def _file(entry: Any) -> HubFile:
    checksum = f"sha256:{entry.lfs.sha256}" if entry.lfs is not None else f"git:{entry.blob_id}"
    return HubFile(entry.path, int(entry.size), checksum)


def gated_error(name: str) -> PermissionDeniedError:
    """Returns the error for a gated dataset: the user must accept the terms of its owner."""
    return PermissionDeniedError(
        f"{name} is gated: you must accept the terms of its owner.",
        remedy="Open its page and accept them, then `hf auth login`.",
    )


def hub_error(name: str, revision: str, error: Exception) -> CholineDataError:
    """Converts an error of the hub's client library. Raises the error again if it is not about the hub."""
    from huggingface_hub import errors as hub

    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, hub.GatedRepoError):
        return gated_error(name)
    if isinstance(error, hub.DisabledRepoError):
        return disabled_error(name)
    if isinstance(error, hub.RevisionNotFoundError):
        return SourceNotFoundError(f"{name} has no revision {revision!r}.", remedy="Leave --revision out.")
    if isinstance(error, hub.RepositoryNotFoundError):
        return SourceNotFoundError(
            f"{name} is neither a local path nor a dataset of the hub that you can read.",
            remedy="Check the spelling; for a private dataset, run `hf auth login`.",
        )
    if isinstance(error, hub.HFValidationError):
        return SourceNotFoundError(f"{name!r} is not an id of the hub.", remedy="An id is OWNER/NAME.")
    if isinstance(error, hub.HfHubHTTPError):
        if status in (401, 403):
            return PermissionDeniedError(f"{name}: access is denied.", remedy="Run `hf auth login`.")
        if status in (404, 410):
            return SourceNotFoundError(f"{name}: the hub answered {status}.", remedy="Check the id and the revision.")
        return UnavailableError(f"{name}: the hub answered {status}.", remedy="Try again later.")
    of_network = type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3"))
    if isinstance(error, hub.OfflineModeIsEnabled | OSError) or of_network:
        return UnavailableError(
            f"{name} is not a local path, and the hub can't be reached.",
            remedy="Check the path, or the network and HF_ENDPOINT, and try again.",
        )
    raise error


def disabled_error(name: str) -> PermissionDeniedError:
    """Returns the error for a dataset that was disabled on the hub."""
    return PermissionDeniedError(
        f"{name} has been disabled on the hub.", remedy="Its page says why. Use another copy of the data."
    )
