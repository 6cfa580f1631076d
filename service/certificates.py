"""The server's certificate, key and client authority, for all ports. They always come from the current files. Files that change
are read at the next handshake: new connections get the new certificate, open connections continue. A certificate and key that do
not match, as in the middle of a rotation, change nothing, and the log says so once.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from pathlib import Path
from typing import Any

from choline_data.errors import InvalidOptionError

LOG = logging.getLogger("choline_data.service")


class Certificates:
    """The TLS files, which are read again when they change. Raises InvalidOptionError if they are wrong at the start."""

    def __init__(self, cert: str, key: str, client_ca: str = "") -> None:
        self._files = {"tls-cert": cert, "tls-key": key, **({"client-ca": client_ca} if client_ca else {})}
        self._lock = threading.Lock()
        self._stamps = self._stamped()
        try:
            self._context, self._pems = self._load()
        except (OSError, ValueError) as error:
            raise self._fault() from error

    def _stamped(self) -> tuple[tuple[int, int, int], ...]:
        stamps = []
        for option, path in self._files.items():
            try:
                at = os.stat(path)
            except OSError as error:
                raise _unreadable(option) from error
            stamps.append((at.st_mtime_ns, at.st_size, at.st_ino))
        return tuple(stamps)

    def _load(self) -> tuple[ssl.SSLContext, dict[str, bytes]]:
        """Loads the current files. Raises OSError (SSLError is a subclass) or ValueError if they are wrong or do not
        match.
        """
        files = self._files
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Without this password, OpenSSL would ask on the terminal for the password of an encrypted key.
        context.load_cert_chain(files["tls-cert"], files["tls-key"], password=lambda: "")
        if "client-ca" in files:
            context.load_verify_locations(files["client-ca"])
            context.verify_mode = ssl.CERT_REQUIRED
        return context, {option: Path(path).read_bytes() for option, path in files.items()}

    def _fault(self) -> InvalidOptionError:
        for option, path in self._files.items():
            if not os.access(path, os.R_OK):
                return _unreadable(option)
        return InvalidOptionError(
            "--tls-cert and --tls-key are not a certificate and its key, or --client-ca is not a certificate authority.",
            remedy="Give PEM files, the key without a password.",
            option="tls_cert",
        )

    def reload(self) -> bool:
        """Reads the files if they have changed. Returns whether new files are in use."""
        with self._lock:
            try:
                stamps = self._stamped()
                if stamps == self._stamps:
                    return False
                self._stamps = stamps
                self._context, self._pems = self._load()
            except (OSError, ValueError, InvalidOptionError):
                LOG.warning("The new TLS files are not used: they can't be read, or they do not belong together.")
                return False
        LOG.info("The TLS files were read again.")
        return True

    def for_grpc(self) -> Any:
        """Returns gRPC credentials that check the files at every handshake."""
        import grpc

        def told() -> Any:
            pems = self._pems
            pair = (pems["tls-key"], pems["tls-cert"])
            return grpc.ssl_server_certificate_configuration([pair], pems.get("client-ca"))

        in_use = [self._pems]

        def fetched() -> Any:
            self.reload()
            if in_use[0] is self._pems:
                return None
            in_use[0] = self._pems
            return told()

        return grpc.dynamic_ssl_server_credentials(told(), fetched, "client-ca" in self._files)

    def for_http(self) -> ssl.SSLContext:
        """Returns a TLS context that checks the files at every handshake."""

        def renewed(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            del name, context
            self.reload()
            connection.context = self._context

        first, _ = self._load()
        first.sni_callback = renewed
        return first


def _unreadable(option: str) -> InvalidOptionError:
    return InvalidOptionError(
        f"--{option}: the file can't be read.",
        remedy="Check its path and its permissions.",
        option=option.replace("-", "_"),
    )
