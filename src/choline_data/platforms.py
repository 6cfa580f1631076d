"""Warns once, at import, about features that do not work on this operating system."""

from __future__ import annotations

import sys
import warnings

MISSING = {
    "win32": (
        "`choline-data serve`, named runs (run=), locks between processes that write one home, and Unix sockets do not work"
        " on Windows. Use Linux, or the Windows Subsystem for Linux."
    ),
    "darwin": (
        "The server with several workers, and DataLoader workers that are forked, are not tested on macOS;"
        " damaged files are decoded in the process itself. Use Linux for them."
    ),
}


class PlatformWarning(UserWarning):
    """A part of the package does not work, or is not tested, on this operating system."""


def say_what_is_missing() -> None:
    """Warns about features that do not work on this operating system. On Linux everything works."""
    if missing := MISSING.get(sys.platform):
        warnings.warn(missing, PlatformWarning, stacklevel=3)
