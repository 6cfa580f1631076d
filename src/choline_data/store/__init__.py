"""The block store: immutable Arrow IPC files of blocks with a fixed number of rows, and one manifest per revision."""

from choline_data.store.blocks import BlockFile, BlockWriter
from choline_data.store.manifest import Manifest, StoredFile
from choline_data.store.open_revision import open_revision
from choline_data.store.revision import Revision
from choline_data.store.snapshots import Catalog, Entry

__all__ = ["BlockFile", "BlockWriter", "Catalog", "Entry", "Manifest", "Revision", "StoredFile", "open_revision"]
