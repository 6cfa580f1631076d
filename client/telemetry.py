"""Statistics of a reader, for progress bars and Prometheus. They are computed only when requested."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from choline_data.client.feedback.outliers import Outliers
from choline_data.client.passing.passes import PassProgress
from choline_data.errors import InvalidOptionError
from choline_data.order.recipe import Recipe


class HasStatistics(Protocol):
    """Interface of an object with statistics: a dataset or a loader."""

    def stats(self) -> dict[str, Any]:
        """Returns the statistics so far."""


class StatisticsSource(Protocol):
    """The attributes of a dataset that `stats` reads."""

    run: str | None
    feedback: Outliers

    @property
    def recipe(self) -> Recipe: ...
    @property
    def length(self) -> int | None: ...
    @property
    def epoch(self) -> int: ...


def stats(dataset: StatisticsSource, progress: PassProgress | None, position: int) -> dict[str, Any]:
    """Returns what this process read in this pass, and what all ranks received before `position`."""
    length = dataset.length
    return {
        "run": dataset.run,
        "position": position,
        "epoch": dataset.epoch,
        **reading(progress),
        **samples_before(dataset.recipe, position if length is None else min(position, length)),
        "spikes": dataset.feedback.spikes,
        "losses": dataset.feedback.losses(),
    }


def reading(progress: PassProgress | None) -> dict[str, Any]:
    """Returns what this process has read in a pass: rows, bytes, the share of time that was spent waiting, and how full
    the queue is.
    """
    seconds = max(time.monotonic() - progress.began, 1e-9) if progress else 1.0
    rows = progress.rows if progress else 0
    received = progress.received() if progress else 0
    queued, room = progress.queue() if progress else (0, 0)
    return {
        "rows": rows,
        "rows_per_second": rows / seconds,
        "bytes": received,
        "bytes_per_second": received / seconds,
        "wait_share": min(progress.waited / seconds, 1.0) if progress else 0.0,
        "queue_bytes": queued,
        # One message may be larger than the limit of the queue.
        "queue_fill": min(queued / room, 1.0) if room else 0.0,
        "skipped": progress.skipped if progress else 0,
        "banned": progress.banned if progress else 0,
    }


def samples_before(recipe: Recipe, position: int) -> dict[str, Any]:
    """Returns how much all ranks received from each source before `position`: rows, epochs and, in the tokens view,
    tokens.
    """
    counts = recipe.plan().samples_before(position) if position else [0] * len(recipe.sources)
    by_source = dict(zip([s.name for s in recipe.sources], counts, strict=True))
    out: dict[str, Any] = {
        "served": by_source,
        "epochs": {s.name: by_source[s.name] / s.rows for s in recipe.sources},
    }
    if recipe.view == "tokens":
        length = int(recipe.options["seq_len"])
        out["tokens"] = {name: count * length for name, count in by_source.items()}
    return out


def postfix(stats: Mapping[str, Any]) -> dict[str, str]:
    """Returns the statistics as a few short strings, for `tqdm.set_postfix`."""
    out = {
        "rows/s": short_figure(stats["rows_per_second"]),
        "B/s": short_figure(stats["bytes_per_second"]),
        "wait": f"{stats['wait_share']:.0%}",
        "queue": f"{stats['queue_fill']:.0%}",
        "position": short_figure(stats["position"]),
        "epochs": " ".join(f"{name}:{epochs:.2g}" for name, epochs in list(stats["epochs"].items())[:4]),
    }
    for name in ("skipped", "banned", "spikes"):
        if stats[name]:
            out[name] = str(stats[name])
    return out


def short_figure(number: float) -> str:
    number = float(f"{number:.3g}")  # Round before the number of digits is counted, because rounding can add a digit.
    power = min(len(str(int(abs(number)))) - 1, 12) // 3
    return f"{number / 1000**power:.3g}{('', 'k', 'M', 'G', 'T')[power]}"


_GAUGES = (
    ("position", "choline_client_position", "Position of the next step in the stream."),
    ("epoch", "choline_client_pass", "Passes over the stream that were finished."),
    ("rows_per_second", "choline_client_rows_per_second", "Rows read in a second of this pass."),
    ("bytes_per_second", "choline_client_bytes_per_second", "Bytes read in a second of this pass."),
    ("wait_share", "choline_client_wait_share", "Share of this pass that was spent waiting for samples."),
    ("queue_bytes", "choline_client_queue_bytes", "Bytes that were read ahead."),
    ("queue_fill", "choline_client_queue_fill", "Share of the queue that is full."),
    ("rows", "choline_client_rows", "Rows read in this pass."),
    ("bytes", "choline_client_bytes", "Bytes read in this pass."),
    ("skipped", "choline_client_skipped", "Samples of this pass left out by on_error."),
    ("banned", "choline_client_banned", "Samples of this pass left out by ban()."),
    ("spikes", "choline_client_spikes", "Spikes of the loss that were reported."),
)
_BY_SOURCE = (
    ("served", "choline_client_served_rows", "Rows of a source given to all ranks."),
    ("epochs", "choline_client_served_epochs", "Epochs of a source given to all ranks."),
    ("tokens", "choline_client_served_tokens", "Tokens of a source given to all ranks."),
)


class ReaderMetrics:
    """A Prometheus collector of a dataset's or loader's statistics, read at each scrape. Does not keep the object alive."""

    def __init__(self, counted: HasStatistics, labels: Mapping[str, str]) -> None:
        from prometheus_client import CollectorRegistry

        self._counted = weakref.ref(counted)
        self._labels = dict(labels)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.port: int | None = None
        self._server: tuple[Any, threading.Thread] | None = None

    def collect(self) -> Iterator[Any]:
        """Returns the current metrics, for prometheus_client."""
        from prometheus_client.core import GaugeMetricFamily

        counted = self._counted()
        if counted is None:
            return
        stats = counted.stats()
        names, values = list(self._labels), list(self._labels.values())
        for key, name, help_text in _GAUGES:
            family = GaugeMetricFamily(name, help_text, labels=names)
            family.add_metric(values, stats[key])
            yield family
        for key, name, help_text in _BY_SOURCE:
            yield _by(GaugeMetricFamily(name, help_text, labels=[*names, "source"]), values, stats.get(key, {}))
        for key in ("median", "deviation"):
            name = f"choline_client_loss_{key}"
            family = GaugeMetricFamily(name, f"The {key} of a dataset's last losses.", labels=[*names, "dataset"])
            yield _by(family, values, {dataset: of[key] for dataset, of in stats["losses"].items()})

    def describe(self) -> Sequence[Any]:
        """Returns nothing, so that registering the collector computes no statistics."""
        return []

    def serve(self, port: int, host: str) -> None:
        """Serves the metrics over HTTP on this port, in a thread. 0 takes any free port."""
        from prometheus_client import start_http_server

        try:
            server, thread = start_http_server(port, addr=host, registry=self.registry)
        except (OSError, OverflowError) as error:
            raise InvalidOptionError(
                f"ReaderMetrics can't be served on {host}:{port}: {error}.",
                remedy="Give another port, or 0 for any that is free; each rank needs a separate port.",
                option="port",
            ) from error
        self._server = (server, thread)
        self.port = int(server.server_port)

    def close(self) -> None:
        """Stops the HTTP server."""
        if self._server is not None:
            server, thread = self._server
            self._server = None
            server.shutdown()
            server.server_close()
            thread.join(timeout=5)


def _by(family: Any, labels: Sequence[str], values: Mapping[str, float]) -> Any:
    for name, value in values.items():
        family.add_metric([*labels, name], value)
    return family


def metrics_of(counted: HasStatistics, port: int | None, host: str, *, rank: int, run: str | None) -> ReaderMetrics:
    """Returns ReaderMetrics with a separate registry. If a port is set, also serves the metrics over HTTP."""
    metrics = ReaderMetrics(counted, {"rank": str(rank), "run": run or ""})
    if port is not None:
        metrics.serve(port, host)
    return metrics
