"""The block store: immutable Arrow IPC files of fixed-row blocks, and one manifest a revision."""

from choline_data.store.blocks import BlockFile, BlockWriter
from choline_data.store.manifest import Manifest, StoredFile
from choline_data.store.open_revision import open_revision
from choline_data.store.revision import Revision
from choline_data.store.snapshots import Catalog, Entry

__all__ = ["BlockFile", "BlockWriter", "Catalog", "Entry", "Manifest", "Revision", "StoredFile", "open_revision"]
