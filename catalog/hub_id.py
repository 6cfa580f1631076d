"""Resolves hub datasets by id: pins a commit, prefers the Parquet conversion, and never runs loading scripts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from choline_data.adapters.base import Source, SourceFile
from choline_data.errors import (
    MissingDependencyError,
    PermissionDeniedError,
    SourceFormatError,
    SourceNotFoundError,
    UnavailableError,
)

CONVERTED = "refs/convert/parquet"


def resolve_hub(name: str, *, revision: str = "", options: Mapping[str, str] | None = None) -> Source:
    """The dataset `OWNER/NAME` at a commit. One-line errors if it is gated, missing, empty, only a script, or unreachable."""
    from choline_data.adapters.reading.left_out import why_left_out
    from choline_data.catalog.source_names import in_order
    from choline_data.catalog.stated_licence import NOASSERTION
    from choline_data.licenses import spdx_of_stated

    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingDependencyError("hub", "Reading hub datasets") from error
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
    with _told(name, revision):
        info = api.dataset_info(name, revision=revision or None, files_metadata=True)
        converted = _conversion(api, name) if not revision else None
    license_ = spdx_of_stated(getattr(info.card_data, "license", None)) or NOASSERTION
    siblings = list(info.siblings or [])
    options = dict(options or {})
    script = next((s.rfilename for s in siblings if s.rfilename == name.rsplit("/", 1)[-1] + ".py"), "")
    partial = converted is not None and any("/partial-" in s.rfilename for s in converted.siblings or [])
    if script and revision != CONVERTED and (converted is None or partial):
        found = "a partial parquet conversion (5 GB) found" if partial else "no parquet conversion found"
        raise SourceFormatError(
            f"{name} ships a loading script, {script}, which is never run; {found}.",
            remedy=f"Use --revision {CONVERTED} for the part that there is."
            if partial
            else "Use a copy of it in Parquet, or download its data files and add the folder.",
        )
    if converted is not None and not partial:
        info, siblings, revision = converted, list(converted.siblings or []), CONVERTED
    if revision == CONVERTED:
        options["layout"] = "hub-parquet"
    left_out = tuple((s.rfilename, why) for s in siblings if (why := why_left_out(s.rfilename)))
    gone = {rfilename for rfilename, _ in left_out}
    files = [_file(name, str(info.sha), s) for s in siblings if s.rfilename not in gone]
    if not [f for f in files if f.name.lower() != "readme.md"]:
        raise SourceNotFoundError(
            f"{name} has no data files any more.",
            remedy="Its page says where the data went; or name an older --revision.",
        )
    files.sort(key=lambda f: in_order(f.name))
    return Source(
        f"hf://datasets/{name}",
        tuple(files),
        revision=str(info.sha),
        license=license_,
        name=name.rsplit("/", 1)[-1],
        folder=True,
        options=options,
        left_out=left_out,
    )


def _conversion(api: Any, name: str) -> Any:
    """The hub's information about the Parquet conversion. None if there is no conversion or it has no Parquet files."""
    refs = api.list_repo_refs(name, repo_type="dataset")
    if not any(ref.ref == CONVERTED for ref in refs.converts):
        return None
    info = api.dataset_info(name, revision=CONVERTED, files_metadata=True)
    return info if any(s.rfilename.endswith(".parquet") for s in info.siblings or []) else None


def _file(name: str, sha: str, sibling: Any) -> SourceFile:
    lfs = getattr(sibling, "lfs", None)
    sha256 = getattr(lfs, "sha256", None) or (lfs.get("sha256") if isinstance(lfs, dict) else None)
    checksum = f"sha256:{sha256}" if sha256 else f"git:{sibling.blob_id}" if sibling.blob_id else ""
    size = sibling.size if sibling.size is not None else -1
    return SourceFile(f"hf://datasets/{name}@{sha}/{sibling.rfilename}", sibling.rfilename, size, checksum)


@contextmanager
def _told(name: str, revision: str) -> Iterator[None]:
    from huggingface_hub import errors as hub

    try:
        yield
    except hub.GatedRepoError as error:
        raise PermissionDeniedError(
            f"{name} needs accepted terms.", remedy="Open its page and accept them, then `hf auth login`."
        ) from error
    except hub.RevisionNotFoundError as error:
        raise SourceNotFoundError(f"{name} has no revision {revision!r}.", remedy="Leave --revision out.") from error
    except hub.RepositoryNotFoundError as error:
        raise SourceNotFoundError(
            f"{name} is neither a local path nor a dataset of the hub that you may see.",
            remedy="Check the spelling; for a private one run `hf auth login`.",
        ) from error
    except hub.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", 0)
        if status in (401, 403):
            raise PermissionDeniedError(f"{name}: access is denied.", remedy="Run `hf auth login`.") from error
        raise UnavailableError(f"{name}: the hub answered {status}.", remedy="Try again later.") from error
    except hub.HFValidationError as error:
        raise SourceNotFoundError(f"{name!r} is no id of the hub.", remedy="An id is OWNER/NAME.") from error
    except (hub.OfflineModeIsEnabled, OSError) as error:
        raise _offline(name) from error
    except Exception as error:
        if type(error).__module__.startswith(("httpx", "httpcore", "requests", "urllib3")):
            raise _offline(name) from error
        raise


def _offline(name: str) -> UnavailableError:
    return UnavailableError(
        f"{name}: there is no such path here, and the hub can't be reached.",
        remedy="Check the path, or the network and HF_ENDPOINT, and try again.",
    )
