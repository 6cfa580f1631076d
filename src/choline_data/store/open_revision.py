"""Opens a revision, whether its samples are stored in the home or in files elsewhere."""

from __future__ import annotations

from choline_data.places.home import Home
from choline_data.store.manifest import read_manifest
from choline_data.store.object_names import IN_PLACE
from choline_data.store.revision import Revision


def open_revision(home: Home, revision: str) -> Revision:
    """Opens the revision for reading, whether its samples are stored in the home or in files elsewhere."""
    table = read_manifest(home, revision)
    if IN_PLACE not in (table.schema.metadata or {}):
        return Revision(home, revision, table)
    # Imported only here, because the import would delay the first sample of every stored dataset by tens of
    # milliseconds.
    from choline_data.store.in_place import InPlaceRevision

    return InPlaceRevision(home, revision, table)
