"""Downloads files whose checksums are known to the download folder, 16 at a time.

A download that was interrupted continues where it stopped. A file gets its final name only after its checksum was
compared, so a file with this name is always complete. Two processes may download the same file at once: both write the
same bytes to the same offsets.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from typing import Any, Final

from choline_data.places.downloads import persistently
from choline_data.places.kept_files import kept_name
from choline_data.places.pins import FilePin, RunningChecksum, without_pin
from choline_data.places.web_files import changed_error, mismatch_error
from choline_data.places.web_requests import ShortAnswerError, answer, body, check_status, refuse_page

AT_ONCE: Final = 16
_BLOCK: Final = 4 << 20
_START = re.compile(r"^bytes (\d+)-\d+/(\d+)$")


def fetch(locations: Iterable[str]) -> None:
    """Downloads those of the files that are not in the download folder yet.

    After the first error, each of the other downloads ends when its current file is complete.
    """
    missing = [place for place in locations if (name := kept_name(place)) is not None and not name.is_file()]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch") as pool:
        running = [pool.submit(_fetch, place) for place in missing]
        done, _ = wait(running, return_when=FIRST_EXCEPTION)
        for future in running:
            future.cancel()
        for future in done:
            future.result()


def drop(locations: Iterable[str]) -> None:
    """Removes the downloaded copies of these files."""
    for place in locations:
        name = kept_name(place)
        if name is not None:
            name.unlink(missing_ok=True)


def _fetch(location: str) -> None:
    place, pin = without_pin(location)
    target = kept_name(location)
    assert target is not None
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    fault = "can't be downloaded"
    persistently(place, partial(_continue, place, pin, part), fault)
    if not _is_right(part, pin):  # the partial file may come from an earlier process, and may have wrong bytes
        part.unlink(missing_ok=True)
        persistently(place, partial(_continue, place, pin, part), fault)
        if not _is_right(part, pin):
            part.unlink(missing_ok=True)
            raise mismatch_error(place)
    part.replace(target)


def _continue(place: str, pin: FilePin, part: Path) -> None:
    """Downloads the bytes that are missing at the end of `part`."""
    have = part.stat().st_size if part.is_file() else 0
    if have == pin.size and part.is_file():
        return
    if have > pin.size:
        part.unlink()
        have = 0
    wanted = {"Range": f"bytes={have}-"} if have else {}
    with answer(place, **wanted) as response:
        check_status(place, response)
        start = _start_of(place, response, pin)
        with open(part, "r+b" if part.is_file() else "wb") as file:
            file.seek(start)
            at = start
            for piece in body(place, response, pin.size - start):
                if not at:
                    refuse_page(place, response, piece)
                at += len(piece)
                if at > pin.size:
                    raise changed_error(place)
                file.write(piece)


def _start_of(place: str, response: Any, pin: FilePin) -> int:
    """Returns the offset in the file at which the body of the answer begins."""
    if response.status_code == 200:
        return 0
    span = _START.match(response.headers.get("Content-Range", ""))
    if response.status_code != 206 or span is None:
        raise ShortAnswerError(f"the server answered {response.status_code} to a request for a byte range")
    if int(span[2]) != pin.size:
        raise changed_error(place)
    return int(span[1])


def _is_right(part: Path, pin: FilePin) -> bool:
    running = RunningChecksum(pin)
    with open(part, "rb") as file:
        while block := file.read(_BLOCK):
            running.add(block)
    return part.stat().st_size == pin.size and running.matches()
