"""One thread that reads ahead of the trainer into a queue with a limit in bytes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from choline_data.client.readers import forks
from choline_data.client.readers.reader import Chunk, Reader
from choline_data.errors import CholineDataError, UnavailableError

QUEUE_BYTES = 256 << 20
_LOOK_SECONDS = 0.5
_FORK_SECONDS = 0.01
_STOP_SECONDS = 10.0


class Prefetch:
    """Reads chunks of a lane ahead. The thread does not exist before the first `next`, nor during a fork."""

    def __init__(
        self,
        reader: Callable[[], Reader],
        read: Callable[[Reader, int], Iterator[Chunk]],
        index: int,
        *,
        limit: int = QUEUE_BYTES,
    ) -> None:
        self._reader = reader
        self._read = read
        self._index = index  # the number, within the lane, of the first sample that is not in the queue yet
        self._limit = limit
        # pairs: a chunk, and its size in bytes, which Arrow is slow to compute
        self._queue: deque[tuple[Chunk, int]] = deque()
        self._bytes = 0
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = self._dropped = False
        self._ended = False
        self._failed: BaseException | None = None
        self.waited = 0.0
        forks.watch(self)

    def next(self) -> Chunk | None:
        """Returns the next chunk, or None after the last chunk."""
        with self._change:
            if not self._queue and not self._ended and self._failed is None:
                self._wait()
            if self._queue:
                chunk, size = self._queue.popleft()
                self._bytes -= size
                self._change.notify_all()
                return chunk
            if self._failed is not None:
                error, self._failed = self._failed, None
                raise error
            return None

    def _wait(self) -> None:
        began = time.monotonic()
        while not self._queue and not self._ended and self._failed is None:
            if forks.under_way():  # Another thread is forking. No thread may start until the fork is complete.
                self._change.wait(_FORK_SECONDS)
                continue
            self._start()
            self._change.wait(_LOOK_SECONDS)
            thread = self._thread
            if self._queue or self._ended or self._failed is not None or thread is None or forks.under_way():
                continue
            if not thread.is_alive():
                raise UnavailableError(
                    "The reader thread died.", remedy="Continue: the next sample starts another thread."
                )
            check = getattr(self._reader(), "check", None)
            if check is not None:
                check()
        self.waited += time.monotonic() - began

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="choline-read", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            for chunk in self._read(self._reader(), self._index):
                size = chunk.batch.nbytes
                with self._change:
                    while self._bytes and self._bytes + size > self._limit and not self._stopping:
                        self._change.wait(_LOOK_SECONDS)
                    if self._stopping:
                        return
                    self._queue.append((chunk, size))
                    self._bytes += size
                    self._index += chunk.batch.num_rows
                    self._change.notify_all()
            with self._change:
                if not self._stopping:
                    self._ended = True
                self._change.notify_all()
        except CholineDataError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - the edge of a thread: raised again in the trainer's
            self._fail(error)
        finally:
            if self._dropped:
                self._reader().close()

    def _fail(self, error: BaseException) -> None:
        with self._change:
            if not self._stopping:
                self._failed = error
                self._thread = None
            self._change.notify_all()

    def pause(self) -> bool:
        """Stops the thread and keeps the queue. The next request for more starts a thread again."""
        with self._change:
            thread, self._stopping = self._thread, True
            self._change.notify_all()
        self._reader().close()
        # The finalizer may run in this thread itself, which can't wait for its own end.
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)
        with self._change:
            stopped = thread is None or not thread.is_alive()
            self._thread = None
            self._change.notify_all()
        return stopped

    def restart(self, index: int) -> None:
        """Empties the queue and continues at the lane's sample number `index`."""
        if not self.pause():
            raise UnavailableError(
                "The reader thread did not stop.", remedy="Load the last state and continue from it."
            )
        self._queue.clear()
        self._bytes, self._index, self._ended, self._failed = 0, index, False, None

    def drop(self) -> None:
        """Signals the thread to stop and close its reader. Never waits for it, so a finalizer in that thread may call this."""
        self._dropped = self._stopping = True
        reader, thread = self._reader(), self._thread
        if thread is None or not thread.is_alive():
            reader.close()
        elif (cancel := getattr(reader, "cancel", None)) is not None:
            cancel()

    def fill(self) -> tuple[int, int]:
        """Returns the number of bytes in the queue, and its maximum."""
        return self._bytes, self._limit
