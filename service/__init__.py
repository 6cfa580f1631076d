"""The server: streams of any mix over gRPC."""

import importlib.util
import sys

from choline_data.errors import InvalidOptionError

if importlib.util.find_spec("fcntl") is None:
    raise InvalidOptionError(
        f"The server does not run on {sys.platform}: it needs locks on files and Unix signals.",
        remedy="Serve from Linux or macOS, or from the Windows Subsystem for Linux.",
    )
