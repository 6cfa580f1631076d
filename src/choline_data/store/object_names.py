"""Names of the objects of a revision in the home, and the metadata key that identifies its manifest."""

from __future__ import annotations

IN_PLACE = b"choline_data.in_place"  # this key is in the metadata of the manifest of every in-place revision


def manifest_name(revision: str) -> str:
    """Returns the name of the object that holds a revision's manifest."""
    return f"revisions/{revision}/manifest.arrow"


def rejects_name(revision: str) -> str:
    """Returns the name of the object that holds the rows which ingestion rejected, one JSON object per line."""
    return f"revisions/{revision}/rejects.jsonl"


def account_name(revision: str, digest: str) -> str:
    """Returns the name of the object that holds an account of a source's files, an Arrow IPC file. `digest` is the xxh3
    of its content.
    """
    return f"revisions/{revision}/files-{digest}.arrow"
