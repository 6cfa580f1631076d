"""Named points at which a test kills this process, as a power failure or the system's out-of-memory killer would.

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
    "lease.staged",  # the writer's lease is written and locked, but it is not visible yet
    "lease.created",  # the lease is visible
    "lease.released",  # the lease is removed, and the command is done
    "object.synced",  # a small object is synced as a staged file
    "object.named",  # it has its name; its staged file is still there
    "hint.replaced",  # a hint has its new content
    "file.synced",  # a store file or a file of tokens is synced as a staged file
    "file.named",  # it has its name; its staged file is still there
    "store-file.begun",  # the first block of a staged store file is on its way to the disk
    "store-file.indexed",  # the block index of a store file is stored, but not the file itself
    "unit.read",  # all rows of a unit are read and written; its last file is perhaps not synced
    "unit.stored",  # all files of a unit are stored
    "rejects.stored",  # the rejects of a revision are stored, but not its manifest
    "account.stored",  # the account of a dataset is stored, but not its manifest
    "manifest.stored",  # the manifest is stored, but the catalog does not name it yet
    "snapshot.ready",  # all objects that the snapshot names were checked
    "snapshot.created",  # the snapshot exists; it has no copy
    "snapshot.copied",  # the copy exists; HEAD names the snapshot before
    "snapshot.complete",  # HEAD names the snapshot
    "gc.chosen",  # gc has chosen the objects to delete
    "gc.deleting",  # gc is about to delete an object
    "gc.done",  # everything is deleted; the lease of gc is still there
    "tokens.marked",  # tokens are marked as made for a request, and are not made yet
    "tokens.encoded",  # the tokens are written as staged files
    "tokens.stored",  # one more file of tokens is stored
    "tokens.summed",  # the checksums are stored, but not meta.json
    "tokens.complete",  # meta.json is stored
]
_POINT, _, _TIME = os.environ.get("CHOLINE_FAULT_POINT", "").partition(":")
_passed = itertools.count(1)


def reached(point: FaultPoint) -> None:
    """Kills this process if the environment names this point."""
    if point == _POINT and next(_passed) == int(_TIME or 1):
        os.kill(os.getpid(), signal.SIGKILL)
