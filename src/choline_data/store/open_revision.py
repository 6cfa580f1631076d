"""Opens a revision, whether its samples are stored in the home or in files elsewhere."""

from __future__ import annotations

from choline_data.places.home import Home
from choline_data.store.manifest import read_manifest
from choline_data.store.revision import Revision


def open_revision(home: Home, revision: str) -> Revision:
    """Opens the revision for reading, whether its samples are stored in the home or in files elsewhere."""
    from choline_data.store.in_place import InPlaceRevision
    from choline_data.store.manifest_in_place import HEAD

    table = read_manifest(home, revision)
    in_place = HEAD in (table.schema.metadata or {})
    return InPlaceRevision(home, revision, table) if in_place else Revision(home, revision, table)
