"""Several server processes on one port: the kernel spreads connections over them, and each is a server of its own.

The parent serves nothing: it holds the port, starts the workers, replaces one that dies, and passes signals on.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict, fields, replace
from typing import Any

from choline_data.errors import InvalidOptionError
from choline_data.home import Home
from choline_data.service.limits import Limits
from choline_data.service.serve import Server, Settings, parse_bytes, serve_until_signal

RESTARTS = 20
ALONE_SECONDS = 0.6  # that a worker has for its readers' end frames when the parent is gone


def reserved(host: str, port: int) -> tuple[socket.socket, int]:
    """The port, bound and never listened on, so that it stays ours while workers come and go."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        if port:  # someone else's port must not be shared by accident
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host.strip("[]"), port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind((host.strip("[]"), port))
    except OSError as error:
        held.close()
        raise InvalidOptionError(
            f"The server can't listen on {host}:{port}: the port is in use or not allowed.", option="port"
        ) from error
    return held, int(held.getsockname()[1])


def end_with_parent() -> None:
    """Ends this worker when its parent is gone, however that ended: the parent holds the other end of its input.

    Nobody would replace the worker or pass signals on to it, and a new parent could not have the port.
    """

    def watch() -> None:
        try:
            while os.read(0, 4096):
                pass
        except OSError:
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # readers get their end frames as far as the time goes
        threading.Event().wait(ALONE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="choline-parent", daemon=True).start()


def run_worker(home: str, max_streams: int, memory: str, limits: dict[str, str], **settings: Any) -> int:
    """What a worker process runs."""
    end_with_parent()
    bounds = replace(Limits.of({"max_streams": max_streams, **limits}), memory=parse_bytes(memory))
    return asyncio.run(serve_until_signal(Home(home or None), Settings(**settings), bounds, shared_port=True))


def run_workers(home: Home, settings: Settings, limits: Limits) -> int:
    """Serves with `settings.workers` processes until a signal; the exit code."""
    return asyncio.run(_Parent(home, settings, limits).run())


class _Parent:
    def __init__(self, home: Home, settings: Settings, limits: Limits) -> None:
        self._home = home
        self._held, port = reserved(settings.host, settings.port)
        self._settings = replace(settings, port=port)
        self._limits = limits
        self._stopping = asyncio.Event()
        self._failed = False
        self._running: set[asyncio.subprocess.Process] = set()

    def _command(self, number: int) -> list[str]:
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
        for name in ("host", "port", "token_file", "tls_cert", "tls_key", "client_ca", "audit"):
            if settings[name]:
                argv += [f"--{name.replace('_', '-')}", str(settings[name])]
        for name in (
            "metrics_port",
            "http_port",
        ):  # ports of their own: the first worker's, then one up for each
            if settings[name] is not None:
                argv += [f"--{name.replace('_', '-')}", str(settings[name] + number if settings[name] else 0)]
        argv += [f"--{name}" for name in ("insecure", "reflection") if settings[name]]
        argv += [f"--tokenizer={name}" for name in settings["tokenizers"]]
        argv += ["--memory", str(max(self._limits.memory // settings["workers"], 1 << 20))]
        argv += ["--max-streams", str(self._limits.max_streams)]
        for field in fields(self._limits):
            if field.name not in ("memory", "max_streams"):
                argv += ["--limit", f"{field.name}={getattr(self._limits, field.name)}"]
        return argv

    async def _keep(self, number: int, ready: asyncio.Future[dict[str, str]]) -> None:
        """Runs worker `number`, and another when it dies."""
        for _ in range(RESTARTS):
            child = await asyncio.create_subprocess_exec(
                *self._command(number),
                stdin=asyncio.subprocess.PIPE,  # held open: its end tells the worker that this process is gone
                stdout=asyncio.subprocess.PIPE,
                env=os.environ,
                start_new_session=True,
            )
            stop = asyncio.ensure_future(self._stopping.wait())
            self._running.add(child)
            try:
                assert child.stdout is not None
                first = await child.stdout.readline()
                if first and not ready.done():
                    ready.set_result(json.loads(first))
                gone = asyncio.ensure_future(child.wait())
                await asyncio.wait({gone, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not gone.done():
                    child.send_signal(signal.SIGTERM)
                    try:
                        await asyncio.wait_for(gone, self._limits.drain + 5)
                    except TimeoutError:
                        child.kill()
                        await child.wait()
                    return
                if not ready.done():
                    ready.set_exception(InvalidOptionError("A worker did not start.", remedy="Its log says why."))
                    return
            finally:
                stop.cancel()
                self._running.discard(child)
                if child.returncode is None:
                    child.kill()
        self._failed = True
        self._stopping.set()

    def _reload(self) -> None:
        for child in self._running:
            if child.returncode is None:
                child.send_signal(signal.SIGHUP)

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        ready = [loop.create_future() for _ in range(self._settings.workers)]
        keepers = [asyncio.ensure_future(self._keep(n, r)) for n, r in enumerate(ready)]
        try:
            told = await asyncio.gather(*ready)
            print(self._line(told[0]), flush=True)
            await self._stopping.wait()
        finally:
            self._stopping.set()
            await asyncio.gather(*keepers, return_exceptions=True)
            self._held.close()
        return int(self._failed)

    def _line(self, first: dict[str, str]) -> str:
        if self._settings.as_json:
            return json.dumps(first)
        return Server.shown(first)
