"""The server's metrics, for Prometheus on a separate port. No label contains the name of a dataset."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from choline_data.errors import CholineDataError
from choline_data.service.auth import Gate
from choline_data.service.limits import Limits
from choline_data.service.web import WebFace, body_of, code_of, common_names, peer_of


class ServerMetrics:
    """The counters and gauges of one server process."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        created: dict[str, Any] = {"registry": self.registry}
        self.streams = Gauge("choline_streams", "Streams open now.", ["face"], **created)
        self.rows = Counter("choline_rows", "Samples sent.", ["face"], **created)
        self.bytes = Counter("choline_bytes", "Bytes sent.", ["face"], **created)
        self.stalls = Counter("choline_stalls", "Streams dropped because their reader did not read.", **created)
        self.refusals = Counter("choline_refused", "Requests refused.", ["reason"], **created)
        self.ends = Counter("choline_ends", "Streams ended on purpose.", ["reason"], **created)
        self.cache_hits = Counter("choline_message_cache_hits", "Messages that were encoded already.", **created)
        self.cache_misses = Counter("choline_message_cache_misses", "Messages that were encoded.", **created)
        self.audit_failures = Counter("choline_audit_failures", "Requests that could not be recorded.", **created)
        self._loads = Gauge("choline_window_loads", "Windows read from the store.", **created)
        self._loaded = Gauge("choline_window_bytes", "Bytes of the windows read from the store.", **created)

    def window_loads(self, loads: int, size: int) -> None:
        """Sets how many windows, and how many bytes of them, have been read so far."""
        self._loads.set(loads)
        self._loaded.set(size)

    def values(self) -> list[Any]:
        """Returns all metrics as plain values. Another process makes a `CollectedMetrics` of them."""
        return [
            [metric.name, metric.documentation, metric.type, [[s.name, s.labels, s.value] for s in metric.samples]]
            for metric in self.registry.collect()
        ]


class CollectedMetrics:
    """The metrics of several workers, as prometheus_client expects a registry. The label `worker` has the number of the
    worker.
    """

    def __init__(self, of_workers: Iterable[tuple[int, list[Any]]]) -> None:
        from prometheus_client.core import Metric
        from prometheus_client.samples import Sample

        created: dict[str, Metric] = {}
        for number, values in of_workers:
            for name, documentation, kind, samples in values:
                metric = created.setdefault(name, Metric(name, documentation, kind))
                metric.samples += [Sample(s, {**labels, "worker": str(number)}, value) for s, labels, value in samples]
        self._made = list(created.values())

    def collect(self) -> list[Any]:
        """Returns the metrics, for the encoders of prometheus_client."""
        return self._made


class MetricsFace(WebFace):
    """The metrics port. If the server has a token file, reading the metrics needs a token or client certificate, as on
    other ports.
    """

    flag = "--metrics-port"

    def __init__(self, registry: Callable[[], Awaitable[Any]], gate: Gate, settings: Any, limits: Limits) -> None:
        super().__init__(settings, limits)
        self._registry = registry
        self._gate = gate

    async def answer(self, target: str, headers: dict[str, list[str]], writer: asyncio.StreamWriter) -> None:
        """Answers a request for the metrics."""
        from prometheus_client.exposition import choose_encoder

        if urlsplit(target).path not in ("/", "/metrics"):
            return await self.end_with(writer, "404 Not Found")
        try:
            names = common_names(writer.get_extra_info("peercert"))
            self._gate.admit(headers.get("authorization", []), names, peer_of(writer))
        except CholineDataError as error:
            return await self.end_with(writer, code_of(error), body_of(error))
        encode, kind = choose_encoder(",".join(headers.get("accept", [])))
        await self.end_with(writer, "200 OK", encode(await self._registry()), kind)
