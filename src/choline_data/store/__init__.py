"""The block store: immutable Arrow IPC files of fixed-row blocks, and one manifest a revision."""

from choline_data.store.blocks import BlockFile, BlockWriter
from choline_data.store.catalog import Catalog, Entry
from choline_data.store.manifest import Manifest, StoredFile
from choline_data.store.revision import Revision, open_revision

__all__ = ["BlockFile", "BlockWriter", "Catalog", "Entry", "Manifest", "Revision", "StoredFile", "open_revision"]
