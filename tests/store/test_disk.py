"""An operation in a home that the system refuses is the same typed error in every part of the code."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from choline_data.errors import HomeError, LimitError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.store import Catalog
from choline_data.store.snapshots import Entry


@contextmanager
def files_of_a_kilobyte() -> Iterator[None]:
    """No file of this process may grow beyond 1 KiB during the block: a write fails as it does on a full disk.

    The block must not be longer than the write, because pytest may write its own output to a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


WRITES = {
    "create": lambda home: home.create("tokens/a", bytes(4096)),
    "hint": lambda home: home.hint("catalog/HEAD", bytes(4096)),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_fails_is_an_error_with_its_place_and_leaves_nothing(tmp_path, write):
    home = Home(tmp_path)
    with pytest.raises(HomeError) as raised, files_of_a_kilobyte():
        WRITES[write](home)
    assert raised.value.reason == "HOME_UNUSABLE"
    assert raised.value.metadata["errno"] == "EFBIG"
    assert str(tmp_path) in raised.value.message
    assert str(tmp_path) not in raised.value.metadata["path"]
    assert "ulimit -f" in raised.value.remedy
    assert home.names("") == []
    assert isinstance(pickle.loads(pickle.dumps(raised.value)), HomeError)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO])
def test_each_refusal_has_a_remedy_and_the_object_within_the_home(tmp_path, number):
    home = Home(tmp_path)
    with pytest.raises(HomeError, match=os.strerror(number)) as raised, home.writing(home.new_staging_path()):
        raise OSError(number, os.strerror(number))
    assert raised.value.metadata["errno"] == errno.errorcode[number]
    assert raised.value.metadata["path"].startswith("staging/")
    assert "--home" in raised.value.remedy


def test_a_lack_of_open_files_is_a_limit_and_no_fault_of_the_home(tmp_path):
    with pytest.raises(LimitError, match="ulimit -n"), Home(tmp_path).reading("catalog/HEAD"):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def test_a_folder_in_the_place_of_an_object_is_an_error_of_reading(tmp_path):
    (tmp_path / "catalog/HEAD").mkdir(parents=True)
    with pytest.raises(HomeError, match="can't be read"):
        Home(tmp_path).read("catalog/HEAD")


def test_what_is_not_there_stays_an_error_of_its_own(tmp_path):
    with pytest.raises(SourceNotFoundError):
        Home(tmp_path).read("catalog/HEAD")
    assert not Home(tmp_path / "none").exists("catalog/HEAD")
    assert Home(tmp_path / "none").names("data") == []


def test_a_snapshot_that_is_written_is_published_though_the_hint_is_not(tmp_path):
    home = Home(tmp_path)
    entry = Entry("a", "0" * 64, "text", 1, 1)

    def check() -> None:
        (tmp_path / "catalog/HEAD").mkdir(parents=True)  # no file can take the place of a folder

    Catalog(home).publish(entry, check=check)
    (tmp_path / "catalog/HEAD").rmdir()
    assert list(Catalog(home).entries()) == ["a"]
