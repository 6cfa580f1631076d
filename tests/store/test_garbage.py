"""What `gc` deletes, what it keeps and why, and what it does beside writers, readers and another `gc`."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from choline_data.errors import (
    ConflictError,
    DamagedStoreError,
    HomeError,
    InvalidOptionError,
    RevisionGoneError,
    UnavailableError,
    UnknownDatasetError,
)
from choline_data.places.home import Home
from choline_data.store import Catalog, leases, open_revision
from choline_data.store.derived import DerivedQuota
from choline_data.store.leases import DEAD_SECONDS, GC, Lease, check_published, check_written, writing
from choline_data.store.retention import pin, pins, unpin
from choline_data.tokens.token_store import tokenize
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.upkeep.garbage import STAGED_SECONDS, collect
from choline_data.upkeep.verify import verify
from choline_data.where.selection import selected_rows


def age(home: Home, name: str, seconds: float) -> None:
    """Makes an object as old as if it had been written so long ago."""
    stat = os.stat(home.path(name))
    os.utime(home.path(name), (stat.st_atime, stat.st_mtime - seconds))


def foreign(home: Home) -> str:
    """A lease as a writer on another host has it; its name."""
    name = "leases/write-" + "f" * 32
    home.create(name, b'{"version":1,"what":"add far","host":"elsewhere","kernel":"another","device":1}')
    return name


def unreferenced(shelf, numbered) -> list[str]:
    """Store files that nothing refers to."""
    shelf.add("old", numbered("old", 20))
    names = [*shelf.home.names("data"), *shelf.home.names("revisions")]
    Catalog(shelf.home).remove("old")
    return names


def test_a_writer_at_work_keeps_every_file_that_may_be_its_own(shelf, numbered):
    names = unreferenced(shelf, numbered)
    with writing(shelf.home, "add web"):
        done = collect(shelf.home, keep_days=0)
        assert done.files == 0 and "add web" in next(iter(done.kept["a writer is at work"].names))
    assert shelf.home.missing(names) == []
    assert collect(shelf.home, keep_days=0).files == len(names)
    assert shelf.home.missing(names) == names


def test_a_writer_on_another_host_counts_until_the_storage_says_that_it_is_not_heard_of(shelf, numbered):
    unreferenced(shelf, numbered)
    name = foreign(shelf.home)
    assert collect(shelf.home, keep_days=0).files == 0
    age(shelf.home, name, DEAD_SECONDS - 30)
    assert collect(shelf.home, keep_days=0).files == 0
    age(shelf.home, name, 60)
    assert collect(shelf.home, keep_days=0).files > 0
    assert not shelf.home.exists(name)


def test_a_writer_that_was_killed_is_known_at_once_on_its_own_host(shelf, numbered):
    unreferenced(shelf, numbered)
    script = (
        "import os, sys; from choline_data.places.home import Home; from choline_data.store.leases import writing\n"
        "with writing(Home(sys.argv[1]), 'add web') as held:\n"
        "    open(held.new_staging_path(), 'w').close(); print('at work', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, shelf.home.location], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None and writer.stdout.readline()
        done = collect(shelf.home, keep_days=0)
        assert done.files == 0 and done.kept["being written"].files == 1
        writer.kill()
        writer.wait()
        assert collect(shelf.home, keep_days=0).files > 0
    assert shelf.home.names("leases") == shelf.home.names("staging") == []


def test_a_writer_that_begins_while_gc_is_at_work_waits_for_its_end(shelf, caplog):
    gc, begun, order = Lease(shelf.home, GC, "gc"), threading.Event(), []

    def write() -> None:
        begun.set()
        with writing(shelf.home, "add web"):
            order.append("writer")

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(10)
    while not any("Waiting" in record.message for record in caplog.records):
        writer.join(0.01)
    order.append("gc")
    gc.release()
    writer.join(30)
    assert order == ["gc", "writer"]


def test_a_writer_does_not_wait_for_ever(shelf):
    gc = Lease(shelf.home, GC, "gc")
    with pytest.raises(UnavailableError, match="gc has been running"), writing(shelf.home, "add web", patience=0.0):
        pass
    gc.release()
    assert shelf.home.names("leases") == []


def test_gc_waits_for_a_writer_where_it_is_asked_to(shelf, numbered):
    names = unreferenced(shelf, numbered)
    begun = threading.Event()

    def write() -> None:
        with writing(shelf.home, "add web"):
            begun.set()
            while not any(name.startswith("leases/gc-") for name in shelf.home.names("leases")):
                pass

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(10)
    assert collect(shelf.home, keep_days=0, wait=60).files == len(names)
    writer.join()


def test_a_writer_whose_lease_was_taken_from_it_looks_whether_its_files_are_there(shelf, numbered):
    names = unreferenced(shelf, numbered)
    with writing(shelf.home, "add web") as held:
        check_written(held, names)
        before = held.lease.name
        os.unlink(shelf.home.path(before))  # as a gc does that takes it for dead
        check_written(held, names)
        assert held.lease.name != before and held.lease.valid
        shelf.home.remove(names[0])
        with pytest.raises(ConflictError, match=f"such as {names[0]}"):
            check_written(held, names)


def test_a_writer_that_slept_for_too_long_takes_a_new_lease(shelf, monkeypatch):
    with writing(shelf.home, "add web") as held:
        before = held.lease.name
        real = leases.clock
        monkeypatch.setattr(leases, "clock", lambda: real() + DEAD_SECONDS)
        assert not held.lease.valid
        check_written(held, [])
        assert held.lease.name != before and held.lease.valid


def test_gc_that_slept_for_too_long_deletes_nothing_more(shelf, numbered, monkeypatch):
    names = unreferenced(shelf, numbered)
    real, removed = os.unlink, []

    def slow(path: str, **options: object) -> None:
        if "/staging/" not in str(path) and "/leases/" not in str(path):
            removed.append(path)
            at = leases.clock() + DEAD_SECONDS
            monkeypatch.setattr(leases, "clock", lambda: at)
        real(path, **options)

    monkeypatch.setattr(os, "unlink", slow)
    with pytest.raises(ConflictError, match="paused for too long"):
        collect(shelf.home, keep_days=0)
    assert len(removed) == 1 and len(shelf.home.missing(names)) == 1


def test_publishing_what_was_deleted_meanwhile_is_refused(shelf, numbered):
    names = unreferenced(shelf, numbered)
    entry = shelf.add("web", numbered("page", 5))
    gone = [*names[1:], "data/00/none.arrow"]
    with pytest.raises(ConflictError, match="Run the same command again"):
        Catalog(shelf.home).publish(entry, check=lambda: check_written(shelf.home, gone))


def test_what_was_removed_or_replaced_stays_for_so_many_days(shelf, numbered):
    old = shelf.add("web", numbered("old", 20))
    new = shelf.add("web", numbered("new", 20))
    gone = shelf.add("code", numbered("line", 9))
    Catalog(shelf.home).remove("code")
    done = collect(shelf.home)
    assert done.files == 0
    why = done.kept["removed or replaced in the last 30 days"]
    assert set(why.names) == {f"code@{gone.revision[:12]}", f"web@{old.revision[:12]}"}
    for number in (1, 2, 3, 4):
        age(shelf.home, f"catalog/{number:08d}.json", 20 * 86400)
    assert collect(shelf.home).files == 0
    assert collect(shelf.home, keep_days=10, dry_run=True).revisions == 2
    age(shelf.home, "catalog/00000002.json", 20 * 86400)  # the snapshot that replaced `old`
    assert collect(shelf.home).revisions == 1
    assert open_revision(shelf.home, gone.revision).rows == 9
    with pytest.raises(RevisionGoneError, match=f"web@{old.revision[:12]} is gone"):
        open_revision(shelf.home, old.revision)
    verify(shelf.home, new)


def test_a_pin_keeps_a_revision_until_it_is_unpinned(shelf, numbered):
    old = shelf.add("web", numbered("old", 20))
    new = shelf.add("web", numbered("new", 20))
    pin(shelf.home, "web", old.revision[:10])
    assert [p.revision for p in pins(shelf.home)] == [old.revision]
    Catalog(shelf.home).remove("web")
    assert collect(shelf.home, keep_days=0).kept["pinned"].names == {f"web@{old.revision[:12]}": None}
    assert open_revision(shelf.home, old.revision).rows == 20
    with pytest.raises(RevisionGoneError):
        pin(shelf.home, "web", new.revision)
    assert unpin(shelf.home, "web") and pins(shelf.home) == []
    collect(shelf.home, keep_days=0)
    with pytest.raises(RevisionGoneError):
        open_revision(shelf.home, old.revision)


def test_a_pin_of_what_is_not_there_names_what_is(shelf, numbered):
    web = shelf.add("web", numbered("page", 3))
    with pytest.raises(UnknownDatasetError):
        pin(shelf.home, "wed")
    with pytest.raises(InvalidOptionError, match=web.revision[:12]):
        pin(shelf.home, "web", "0" * 12)
    with pytest.raises(InvalidOptionError, match="no pin"):
        unpin(shelf.home, "web")


def test_an_old_snapshot_that_can_not_be_read_may_have_named_any_revision(shelf, numbered):
    shelf.add("web", numbered("old", 20))
    shelf.add("web", numbered("new", 20))
    path = Path(shelf.home.path("catalog/00000001.json"))
    path.chmod(0o644)
    path.write_text("{")
    assert collect(shelf.home).files == 0


def test_nothing_is_deleted_while_a_kept_manifest_can_not_be_read(shelf, numbered):
    web = shelf.add("web", numbered("page", 20))
    unreferenced(shelf, numbered)
    before = [*shelf.home.names("data"), *shelf.home.names("revisions")]
    path = Path(shelf.home.path(f"revisions/{web.revision}/manifest.arrow"))
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedStoreError, match="Nothing was deleted"):
        collect(shelf.home, keep_days=0)
    assert shelf.home.missing(before) == []


def test_a_dry_run_deletes_nothing(shelf, numbered):
    names = unreferenced(shelf, numbered)
    assert collect(shelf.home, keep_days=0, dry_run=True).files == len(names)
    assert shelf.home.missing(names) == []


def test_a_staged_file_without_a_lease_goes_when_nobody_writes_to_it(shelf, numbered):
    shelf.add("web", numbered("page", 3))
    Path(shelf.home.new_staging_path()).touch()
    (staged,) = shelf.home.names("staging")
    assert collect(shelf.home).kept["being written"].files == 1
    age(shelf.home, staged, STAGED_SECONDS + 1)
    assert collect(shelf.home).files == 1


def test_gc_evicts_what_is_above_the_quota_of_derived_data(shelf, numbered):
    web = shelf.add("web", numbered("page", 50))
    revision = open_revision(shelf.home, web.revision)
    for number in range(4):
        selected_rows(shelf.home, revision, f"len(text) > {number}")
    assert collect(shelf.home).files == 0
    shelf.home.derived = DerivedQuota(files=2)
    assert collect(shelf.home).files == 2
    assert len(shelf.home.names("selections")) == 2
    Catalog(shelf.home).remove("web")
    collect(shelf.home, keep_days=0)
    assert shelf.home.names("selections") == []


def test_tokens_that_were_begun_and_not_finished_go_and_others_stay_with_their_revision(shelf, numbered):
    web = shelf.add("web", numbered("page", 50))
    tokenize(shelf.home, web.revision, Tokenizer("bytes"), boundary="none")
    tokenize(shelf.home, web.revision, Tokenizer("bytes"))
    whole = shelf.home.names("tokens")
    shelf.home.remove(next(name for name in whole if name.endswith("/meta.json")))
    assert collect(shelf.home).files == len(whole) // 2 - 1
    assert len(shelf.home.names("tokens")) == len(whole) // 2
    Catalog(shelf.home).remove("web")
    collect(shelf.home, keep_days=0)
    assert shelf.home.names("tokens") == []


def test_gc_works_where_there_is_no_room_and_a_writer_is_refused(shelf, numbered, monkeypatch):
    names = unreferenced(shelf, numbered)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(HomeError, match="No space left"), writing(shelf.home, "add web"):
        pass
    assert collect(shelf.home, keep_days=0).files == len(names)
    assert shelf.home.names("leases") == shelf.home.names("staging") == []


def test_a_writer_that_was_stopped_while_it_published_looks_again(shelf, numbered, monkeypatch):
    names = unreferenced(shelf, numbered)
    with writing(shelf.home, "add web") as held:
        shelf.home.remove(names[0])
        check_published(held, names)  # its lease is good: `gc` has not been there
        monkeypatch.setattr(leases, "clock", partial(float.__add__, DEAD_SECONDS, leases.clock()))
        with pytest.raises(ConflictError, match="was stopped while it published"):
            check_published(held, names)


def test_two_collections_at_once_delete_the_same(shelf, numbered):
    names = unreferenced(shelf, numbered)
    kept = shelf.add("web", numbered("page", 9))
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: collect(Home(shelf.home.location), keep_days=0), range(4)))
    assert all(d.files <= len(names) for d in done)
    assert shelf.home.missing(names) == names
    verify(shelf.home, kept)


def test_on_an_object_store_a_lease_is_an_object_whose_time_the_store_gives(numbered, monkeypatch):
    home = Home(f"memory://leases-{os.getpid()}")
    home.put("data/00/none.arrow", b"left")
    with writing(home, "add web") as held:
        assert collect(home, keep_days=0).files == 0
        monkeypatch.setattr(leases, "RENEW_SECONDS", 0.0)
        held.lease.renew()
    assert home.names("leases") == []
    foreign(home)
    assert collect(home, keep_days=0).files == 0
    monkeypatch.setattr(leases, "DEAD_SECONDS", -1.0)
    assert collect(home, keep_days=0).files == 1
    assert home.names("leases") == []
