"""The child of test_hostile: one `add` by the real command line, in a fresh process that has it all imported."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import traceback
from pathlib import Path


def add(path: str, folder: str, more: tuple[str, ...] = ()) -> None:
    """Adds `path` into `folder`/home and writes how that ended, and the peak of memory in MiB, to `folder`/end.json."""
    from choline_data.cli import main

    work = Path(folder) / "work"
    work.mkdir()
    os.chdir(work)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    sys.argv = ["choline-data", "add", path, "--yes", "--json", "--home", f"{folder}/home", *more]
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:  # noqa: BLE001 - a traceback is what the test looks for
            code = "traceback"
            traceback.print_exc()
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    end = {"code": code, "out": out.getvalue(), "err": err.getvalue(), "peak": int(peak.split()[1]) >> 10}
    (Path(folder) / "end.json").write_text(json.dumps(end))
