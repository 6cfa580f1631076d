"""Several server processes on one port. The kernel spreads connections over them; each worker is a complete server.

The parent serves no samples. It reserves the ports, starts the workers, restarts a worker that dies, passes signals on,
and serves the metrics that it collects from its workers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import orjson

from choline_data.errors import InvalidOptionError
from choline_data.places.home import Home
from choline_data.service.limits import Limits
from choline_data.service.server import Server, Settings, parse_bytes, ready_line, serve_until_signal

if TYPE_CHECKING:
    from choline_data.service.auth import Gate
    from choline_data.service.certificates import Certificates

RESTARTS = 20
ALONE_SECONDS = 0.6  # how many seconds a worker without a parent may still send end frames to its readers
SCRAPE_SECONDS = 2.0  # how many seconds the parent waits for the metrics of a worker
LINE_BYTES = 4 << 20


def reserve_port(host: str, port: int, flag: str = "--port") -> tuple[socket.socket, int]:
    """Binds the port without listening on it, so that it stays reserved while workers come and go.

    Returns the socket and the port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if port:  # without SO_REUSEPORT here, the port of another server can't be shared by accident
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host.strip("[]"), port))
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host.strip("[]"), port))
    except OSError as error:
        from choline_data.service.web import in_use

        bound.close()
        raise in_use(host, port, flag) from error
    return bound, int(bound.getsockname()[1])


class _Link:
    """A worker's side of the pipes to its parent: sends metrics on request, and ends the worker when the parent is gone.

    The parent holds the other end of the worker's standard input, so the input closes however the parent ends. A worker
    without a parent must end: nobody restarts it or passes signals to it, and a new parent could not bind the port.
    """

    def __init__(self) -> None:
        self._server: Server | None = None
        threading.Thread(target=self._run, name="choline-parent", daemon=True).start()

    def ready(self, server: Server) -> None:
        """Sets the server whose metrics this worker sends to its parent. Until then, it sends an empty list."""
        self._server = server

    def _run(self) -> None:
        try:
            with open(0, "rb", closefd=False) as requests:
                while line := requests.readline():
                    server = self._server
                    values = [] if server is None else server.calls.metrics.values()
                    sys.stdout.buffer.write(orjson.dumps({"number": int(line), "values": values}) + b"\n")
                    sys.stdout.buffer.flush()
        except (OSError, ValueError):
            pass
        # The signal makes this worker drain. Its readers get their end frames if there is enough time.
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(ALONE_SECONDS)
        os._exit(1)


def run_worker(home: str, max_streams: int, memory: str, limits: dict[str, str], **settings: Any) -> int:
    """Runs a worker process until a signal or the end of its parent. Returns the exit code."""
    link = _Link()
    bounds = replace(Limits.of({"max_streams": max_streams, **limits}), memory=parse_bytes(memory))
    return asyncio.run(
        serve_until_signal(Home(home or None), Settings(**settings), bounds, shared_port=True, ready=link.ready)
    )


def run_workers(home: Home, settings: Settings, limits: Limits) -> int:
    """Serves with `settings.workers` processes until a signal. Returns the exit code."""
    return asyncio.run(_Parent(home, settings, limits).run())


class _Worker:
    """One worker process, as the parent sees it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._number = 0
        self._asked: dict[int, asyncio.Future[list[Any]]] = {}

    async def listen(self) -> None:
        """Reads the metrics that the worker sends, until the worker ends."""
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            reply = orjson.loads(line)
            future = self._asked.pop(reply["number"], None)
            if future is not None and not future.done():
                future.set_result(reply["values"])

    async def values(self) -> list[Any]:
        """Returns the worker's metrics, or an empty list if the worker does not answer within SCRAPE_SECONDS."""
        assert self.process.stdin is not None
        self._number += 1
        number = self._number
        self._asked[number] = asyncio.get_running_loop().create_future()
        try:
            self.process.stdin.write(b"%d\n" % number)
            return await asyncio.wait_for(self._asked[number], SCRAPE_SECONDS)
        except (TimeoutError, ConnectionError):
            return []
        finally:
            self._asked.pop(number, None)


class _Parent:
    def __init__(self, home: Home, settings: Settings, limits: Limits) -> None:
        self._home = home
        self._settings = settings
        self._limits = limits
        self._stopping = asyncio.Event()
        self._failed = False
        self._running: dict[int, _Worker] = {}
        self._held: list[socket.socket] = []
        self._gate: Gate | None = None
        self._certificates: Certificates | None = None
        self._scrape: asyncio.Task[Any] | None = None

    def _reserve(self) -> None:
        """Reserves the ports that the workers share. Fixed ports come first, because a free port must not be one of them."""
        settings = self._settings
        ports: dict[str, int | None] = {"--port": settings.port, "--http-port": settings.http_port}
        for flag, stated in sorted(ports.items(), key=lambda item: not item[1]):
            if stated is not None:
                held, ports[flag] = reserve_port(settings.host, stated, flag)
                self._held.append(held)
        self._settings = replace(settings, port=ports["--port"] or 0, http_port=ports["--http-port"])

    def _command(self) -> list[str]:
        settings = asdict(self._settings)
        argv = [
            sys.executable,
            "-m",
            "choline_data.service",
            "--shared-port",
            "--json",
            "--home",
            self._home.location,
        ]
        for name in ("host", "port", "http_port", "token_file", "tls_cert", "tls_key", "client_ca", "audit"):
            if settings[name]:
                argv += [f"--{name.replace('_', '-')}", str(settings[name])]
        argv += [f"--{name}" for name in ("insecure", "reflection") if settings[name]]
        argv += [f"--tokenizer={name}" for name in settings["tokenizers"]]
        argv += [f"--http-host={name}" for name in settings["http_hosts"]]
        argv += ["--memory", str(max(self._limits.memory // settings["workers"], 1 << 20))]
        argv += ["--max-streams", str(self._limits.max_streams)]
        for field in fields(self._limits):
            if field.name not in ("memory", "max_streams"):
                argv += ["--limit", f"{field.name}={getattr(self._limits, field.name)}"]
        return argv

    async def _keep(self, number: int, ready: asyncio.Future[None]) -> None:
        """Runs worker `number`, and starts it again when it dies. After RESTARTS starts, the whole server stops."""
        for _ in range(RESTARTS):
            child = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=os.environ,
                start_new_session=True,
                limit=LINE_BYTES,
            )
            stop = asyncio.ensure_future(self._stopping.wait())
            worker = _Worker(child)
            listening: asyncio.Future[None] | None = None
            try:
                assert child.stdout is not None
                if await child.stdout.readline():
                    self._running[number] = worker
                    listening = asyncio.ensure_future(worker.listen())
                    if not ready.done():
                        ready.set_result(None)
                exit_status = asyncio.ensure_future(child.wait())
                await asyncio.wait({exit_status, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not exit_status.done():
                    await self._end(child, exit_status)
                    return
                if not ready.done():
                    ready.set_exception(InvalidOptionError("A worker did not start.", remedy="Its log says why."))
                    return
            finally:
                stop.cancel()
                if listening is not None:
                    listening.cancel()
                self._running.pop(number, None)
                if child.returncode is None:
                    child.kill()
        self._failed = True
        self._stopping.set()

    async def _end(self, child: asyncio.subprocess.Process, end: asyncio.Future[int]) -> None:
        child.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(end, self._limits.drain + 5)
        except TimeoutError:
            child.kill()
            await child.wait()

    def _reload(self) -> None:
        for worker in self._running.values():
            if worker.process.returncode is None:
                worker.process.send_signal(signal.SIGHUP)
        if self._gate is not None:
            self._gate.reload()
        if self._certificates is not None:
            self._certificates.reload()

    async def _registry(self) -> Any:
        """Returns the metrics of all workers. Scrapes that arrive at the same time share one request to the workers."""
        if self._scrape is None or self._scrape.done():
            self._scrape = asyncio.ensure_future(self._collected())
        return await asyncio.shield(self._scrape)

    async def _collected(self) -> Any:
        from choline_data.service.metrics import CollectedMetrics

        running = sorted(self._running.items())
        return CollectedMetrics(
            zip(dict(running), await asyncio.gather(*(w.values() for _, w in running)), strict=True)
        )

    async def _listen(self) -> Any:
        """Opens the metrics port if the settings have one."""
        settings = self._settings
        if settings.metrics_port is None:
            return None
        from choline_data.service.auth import Gate
        from choline_data.service.certificates import Certificates
        from choline_data.service.metrics import MetricsFace

        self._gate = Gate(settings.token_file, self._limits)
        tls = None
        if settings.tls_cert:
            self._certificates = Certificates(settings.tls_cert, settings.tls_key, settings.client_ca)
            tls = self._certificates.for_http()
        face = MetricsFace(self._registry, self._gate, settings, self._limits)
        port = await face.start(settings.beside, settings.metrics_port, tls)
        self._settings = replace(settings, metrics_port=port)
        return face

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        keepers: list[asyncio.Future[None]] = []
        face = None
        try:
            self._reserve()
            face = await self._listen()
            ready = [loop.create_future() for _ in range(self._settings.workers)]
            keepers = [asyncio.ensure_future(self._keep(n, r)) for n, r in enumerate(ready)]
            await asyncio.gather(*ready)
            settings = self._settings
            print(ready_line(settings, settings.port, settings.http_port, settings.metrics_port), flush=True)
            await self._stopping.wait()
        finally:
            self._stopping.set()
            await asyncio.gather(*keepers, return_exceptions=True)
            if face is not None:
                await face.stop()
            for bound in self._held:
                bound.close()
        return int(self._failed)
