"""Mapped files that change under their readers: the reader gets an error that names the file. It never gets wrong
bytes, and the process never dies.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
import time

import pyarrow as pa
import pytest

from choline_data.errors import DamagedStoreError
from choline_data.places.mapped import MappedFile, mark, same, steady
from choline_data.process import bus_errors

pytestmark = pytest.mark.skipif(not bus_errors.SUPPORTED, reason="SIGBUS is taken on Linux alone")
PAGES = 64
SIZE = PAGES * mmap.PAGESIZE


def opened(path, content: bytes | None = None) -> MappedFile:
    """The file mapped; it should have `content`, which it has now, or is given."""
    if content is not None:
        path.write_bytes(content)
    wanted = path.read_bytes()
    return MappedFile(
        str(path),
        damaged=lambda how: DamagedStoreError(f"{path.name}: {how}."),
        recheck=lambda memory: "" if memory.to_pybytes() == wanted else "it has other bytes",
    )


@pytest.fixture
def file(tmp_path) -> MappedFile:
    return opened(tmp_path / "file", os.urandom(SIZE))


@pytest.mark.parametrize("left", [0, mmap.PAGESIZE, 7 * mmap.PAGESIZE + 100, SIZE - 1])
def test_a_file_that_is_cut_is_an_error_with_its_name(tmp_path, file, left):
    os.truncate(tmp_path / "file", left)
    with pytest.raises(DamagedStoreError, match="file: "):
        steady(lambda: bytes(memoryview(file.buffer)), [file])
    assert file.lost
    with pytest.raises(DamagedStoreError, match="file: "):  # it stays so, whatever becomes of it
        steady(lambda: bytes(memoryview(file.buffer)[:1]), [file])


def test_an_other_file_is_read_on_while_one_is_cut(tmp_path, file):
    other = opened(tmp_path / "other", os.urandom(SIZE))
    os.truncate(tmp_path / "file", 0)
    with pytest.raises(DamagedStoreError):
        steady(lambda: pa.compute.sum(pa.Array.from_buffers(pa.uint8(), SIZE, [None, file.buffer])), [file])
    assert steady(lambda: bytes(memoryview(other.buffer)), [other]) == (tmp_path / "other").read_bytes()
    assert not other.lost


def test_many_threads_at_the_pages_that_are_gone_all_go_on(tmp_path, file):
    os.truncate(tmp_path / "file", 0)
    failed: list[DamagedStoreError] = []
    ready = threading.Barrier(8)

    def read(first: int) -> None:
        ready.wait()
        try:
            steady(lambda: bytes(memoryview(file.buffer)[first * mmap.PAGESIZE :]), [file])
        except DamagedStoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=read, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 8


def test_a_byte_that_is_overwritten_is_an_error_and_one_that_is_overwritten_and_put_back_is_read_again(tmp_path, file):
    before = bytes(memoryview(file.buffer))
    path = tmp_path / "file"
    reads: list[bytes] = []

    def read() -> bytes:
        """What a reader sees between a change and its end."""
        with open(path, "r+b") as changed:
            if not reads:
                changed.write(bytes([before[0] ^ 1]))
                changed.flush()
            reads.append(bytes(memoryview(file.buffer)))
            changed.seek(0)
            changed.write(before[:1])
        return reads[-1]

    first = os.stat(path).st_mtime_ns
    while time.time_ns() - first < 20_000_000:  # the clock of a file system ticks some hundred times a second
        time.sleep(0.005)
    with pytest.raises(DamagedStoreError, match=r"keeps changing|other bytes"):
        steady(read, [file])  # `read` changes the file each time
    assert reads[0] != before
    path.write_bytes(before)
    again = opened(path)
    with open(path, "r+b") as changed:
        changed.write(bytes([before[0] ^ 1]))
    with pytest.raises(DamagedStoreError, match="other bytes"):
        steady(lambda: bytes(memoryview(again.buffer)), [again])


@pytest.mark.parametrize("touch", ["mode", "link", "times", "removed", "replaced"])
def test_what_leaves_the_bytes_as_they_are_leaves_the_reader_alone(tmp_path, file, touch):
    path, before = tmp_path / "file", bytes(memoryview(file.buffer))
    since = mark()
    if touch == "mode":
        path.chmod(0o400)
    elif touch == "link":
        os.link(path, tmp_path / "link")
    elif touch == "times":
        os.utime(path, (1, 1))
    else:
        path.unlink()
    if touch == "replaced":
        path.write_bytes(b"another")
    assert not same([file], since)
    for _ in range(2):
        assert steady(lambda: bytes(memoryview(file.buffer)), [file]) == before
    assert not same([file], since)  # what was read before the file was looked at again is not to be used
    assert same([file], mark())
    assert not file.lost


def test_a_fault_of_the_reader_itself_is_no_fault_of_the_file(file):
    with pytest.raises(ZeroDivisionError):
        steady(lambda: 1 // 0, [file])
    assert not file.lost


def test_what_is_left_of_a_mapping_can_be_read_after_the_file_was_cut(tmp_path):
    held = opened(tmp_path / "file", bytes(SIZE))
    part = held.buffer.slice(8, 8)
    del held
    os.truncate(tmp_path / "file", 0)
    assert part.to_pybytes() == bytes(8)


CHILD = """
import faulthandler, mmap, os, signal, sys
from choline_data.errors import DamagedStoreError
from choline_data.places.mapped import MappedFile, steady
path = sys.argv[1]
mapped = MappedFile(path, damaged=DamagedStoreError, recheck=lambda _: "")
def read():
    try:
        steady(lambda: bytes(memoryview(mapped.buffer)), [mapped])
    except DamagedStoreError:
        print("damaged", flush=True)
"""
FOREIGN = """
with open(path + ".own", "w+b") as own:
    own.write(bytes(mmap.PAGESIZE)); own.flush()
    theirs = mmap.mmap(own.fileno(), 0, prot=mmap.PROT_READ)
os.truncate(path + ".own", 0)
"""


def child(tmp_path, code: str, before: str = "") -> subprocess.CompletedProcess[str]:
    (tmp_path / "file").write_bytes(bytes(SIZE))
    script = CHILD.replace("mapped = ", f"{before}\nmapped = ") + code
    return subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "file")], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("before", ["", "faulthandler.enable()"], ids=["alone", "faulthandler first"])
@pytest.mark.parametrize("after", ["", "faulthandler.enable()"], ids=["last", "faulthandler after"])
def test_a_fault_in_a_file_of_others_does_what_it_did_before(tmp_path, before, after):
    done = child(tmp_path, f"{after}\n{FOREIGN}\nos.truncate(path, 0); read(); print(theirs[0])", before)
    assert done.returncode == -signal.SIGBUS, done.stderr
    assert done.stdout == "damaged\n"
    if before or after:
        assert "Fatal Python error: Bus error" in done.stderr


def test_a_signal_that_is_sent_does_what_it_did_before(tmp_path):
    done = child(tmp_path, "os.kill(os.getpid(), signal.SIGBUS); print('lives')")
    assert (done.returncode, done.stdout) == (-signal.SIGBUS, "")
    done = child(
        tmp_path,
        "signal.signal(signal.SIGBUS, lambda *_: print('theirs')); read()\n"
        "os.kill(os.getpid(), signal.SIGBUS); os.truncate(path, 0); read()",
    )
    assert (done.returncode, done.stdout) == (0, "theirs\ndamaged\n"), done.stderr


def test_a_process_that_was_forked_has_the_handler(tmp_path):
    done = child(tmp_path, "pid = os.fork()\nos.truncate(path, 0); read()\nif pid: assert os.waitpid(pid, 0)[1] == 0")
    assert (done.returncode, done.stdout.count("damaged")) == (0, 2), done.stderr
