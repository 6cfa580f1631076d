"""Named points in the code at which a test can kill this process, as a power failure or the out-of-memory killer would.

With `CHOLINE_FAULT_POINT=snapshot.created`, the process gets SIGKILL when it reaches that point. With
`snapshot.created:3`, it gets SIGKILL at the third time. The points lie between the changes that `add`, `rm`, `gc` and
`tokenize` make to a home. Without the variable, a point does nothing.
"""

from __future__ import annotations

import itertools
import os
import signal
from typing import Literal

FaultPoint = Literal[
    "lease.staged",  # the lease of the writer is written and locked, but does not have its final name yet
    "lease.created",  # the lease has its final name, so other processes see it
    "lease.released",  # the lease is removed, and the command is done
    "object.synced",  # a small object is complete on the disk, as a staged file
    "object.named",  # the small object has its final name, and its staged file is not removed yet
    "hint.replaced",  # the hint `catalog/HEAD` has its new content
    "file.synced",  # a store file or a file of tokens is complete on the disk, as a staged file
    "file.named",  # the store file or file of tokens has its final name, and its staged file is not removed yet
    "store-file.begun",  # the first bytes of a store file were passed to the thread that writes the file
    "store-file.indexed",  # the block index of a store file is stored, but not the file itself
    "unit.read",  # all rows of a unit are read and written, but its last file may not be on the disk yet
    "unit.stored",  # all files of a unit are stored
    "rejects.stored",  # the rejects of a revision are stored, but not its manifest
    "account.stored",  # the account of a dataset is stored, but not its manifest
    "manifest.stored",  # the manifest is stored, but the catalog does not name it yet
    "snapshot.ready",  # all objects that the next snapshot names exist; the snapshot is not written yet
    "snapshot.created",  # the snapshot exists, but its copy does not
    "snapshot.copied",  # the copy exists, but `catalog/HEAD` still names the previous snapshot
    "snapshot.complete",  # `catalog/HEAD` names the snapshot
    "gc.chosen",  # `gc` has chosen the objects to delete, and has deleted none of them
    "gc.deleting",  # `gc` is about to delete an object
    "gc.done",  # all objects are deleted, and the lease of `gc` is not removed yet
    "tokens.marked",  # the mark that a request caused these tokens is stored, but no tokens are
    "tokens.encoded",  # the tokens are complete, as staged files
    "tokens.stored",  # one more file of tokens is stored
    "tokens.summed",  # the checksums of the tokens are stored, but `meta.json` is not
    "tokens.complete",  # `meta.json` is stored, so the tokens are visible
]
_POINT, _, _TIME = os.environ.get("CHOLINE_FAULT_POINT", "").partition(":")
_passed = itertools.count(1)


def reached(point: FaultPoint) -> None:
    """Call this at a fault point. Kills this process if the environment variable names the point."""
    if point == _POINT and next(_passed) == int(_TIME or 1):
        os.kill(os.getpid(), signal.SIGKILL)
