"""What the server counts, for Prometheus on a port of its own. No label carries a dataset's name."""

from __future__ import annotations

import threading
from typing import Any


class Metrics:
    """The counters of one process."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry}
        self.streams = Gauge("choline_streams", "Streams open now.", ["face"], **made)
        self.rows = Counter("choline_rows", "Samples sent.", ["face"], **made)
        self.bytes = Counter("choline_bytes", "Bytes sent.", ["face"], **made)
        self.stalls = Counter("choline_stalls", "Streams dropped because their reader did not read.", **made)
        self.refused = Counter("choline_refused", "Requests refused.", ["reason"], **made)
        self.ends = Counter("choline_ends", "Streams ended on purpose.", ["reason"], **made)
        self.cache_hits = Counter("choline_message_cache_hits", "Messages that were encoded already.", **made)
        self.cache_misses = Counter("choline_message_cache_misses", "Messages that were encoded.", **made)
        self.audit_failures = Counter("choline_audit_failures", "Requests that could not be recorded.", **made)
        self._loads = Gauge("choline_window_loads", "Windows read from the store.", **made)
        self._loaded = Gauge("choline_window_bytes", "Bytes of the windows read from the store.", **made)
        self._server: tuple[Any, threading.Thread] | None = None

    def window_loads(self, loads: int, size: int) -> None:
        """What the window cache has read so far."""
        self._loads.set(loads)
        self._loaded.set(size)

    def serve(self, host: str, port: int) -> int:
        """Answers scrapes on this port, in a thread; the port that it got."""
        from prometheus_client import start_http_server

        server, thread = start_http_server(port, addr=host, registry=self.registry)
        self._server = (server, thread)
        return int(server.server_port)

    def close(self) -> None:
        """Stops answering."""
        if self._server is not None:
            self._server[0].shutdown()
            self._server[0].server_close()
            self._server[1].join(timeout=5)
