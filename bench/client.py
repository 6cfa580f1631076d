"""Measures documents per second into the training process: our loader, a bare Arrow ceiling, and other loaders.

    python bench/client.py                               # our loader and the ceiling
    python bench/peers/setup.py --into envs              # once: an environment for each of the other loaders
    python bench/client.py --peers envs --keep work      # all of them

There are two sources of documents of about 2.4 KB, mixed 70/30 and shuffled. The ceiling gathers random rows of an Arrow
table in memory, 512 at a time, and makes Python objects of them with `to_pylist`. A batch has 64 documents. Our batches
build a string only when it is used; in the cases "looked at" every string is used. A service is compared with our batches
through the server, looked at, because both come from another process and deliver lists of Python objects. The case
"bytes thrown away" only receives a server's messages: no reader of a server can be faster. The time of the
first sample after a resume includes the construction of everything except imports. Its mix has 200,000 documents of 240
bytes.
"""

from __future__ import annotations

import argparse
from functools import partial

import beside
from beside import Bench, Case, Target
from common import RESUME_AT

FIRST = ", s"
BATCH = ("--batch", "64")
TWO = ("--workers", "2")
AT = ("--at", str(RESUME_AT))
# Options as the documentation recommends. If there are several ways, the fastest one on two cores here.
ONE = {"datasets": TWO, "grain": (), "litdata": (), "mosaicml": TWO, "webdataset": ()}
BATCHES = {"datasets": TWO, "grain": (), "litdata": (), "mosaicml": TWO, "webdataset": TWO}
SERVICE = "tf.data service"
DRAINED = "bytes thrown away, server"
RESUMES = ("datasets", "grain", "litdata", "mosaicml")  # webdataset resumes only by reading again from the start

CASES = {
    "one": [
        Case("ceiling: gather and to_pylist", "ceiling", "texts"),
        Case("ours, one by one", "ours", "texts"),
        Case("ours, one by one, server", "ours", "texts", served=True),
        *(Case(f"{name}, one by one", f"with_{name}", "texts", how, name) for name, how in ONE.items()),
        Case(f"{SERVICE}, one by one", "with_tfdata", "texts", (), "tfdata"),
    ],
    "batches": [
        Case("ours, batches", "ours", "texts", BATCH),
        Case("ours, batches, looked at", "ours", "texts", (*BATCH, "--lists")),
        Case(DRAINED, "drained", "texts", BATCH, served=True),
        Case("ours, batches, server", "ours", "texts", BATCH, served=True),
        Case("ours, batches, looked at, server", "ours", "texts", (*BATCH, "--lists"), served=True),
        *(Case(f"{name}, batches", f"with_{name}", "texts", (*BATCH, *how), name) for name, how in BATCHES.items()),
        Case(f"{SERVICE}, batches", "with_tfdata", "texts", BATCH, "tfdata"),
    ],
    "messages": [
        Case(
            f"{DRAINED}, messages of {size} MiB",
            "drained",
            "texts",
            (*BATCH, "--message-bytes", str(size << 20)),
            served=True,
        )
        for size in (1, 4)
    ],
    "resume": [
        Case(f"ours, resumed at {RESUME_AT:,}{FIRST}", "ours", "resume", AT, first=True),
        Case(f"ours, server, resumed at {RESUME_AT:,}{FIRST}", "ours", "resume", AT, served=True, first=True),
        *(
            Case(f"{name}, resumed at {RESUME_AT:,}{FIRST}", f"with_{name}", "resume", AT, name, first=True)
            for name in RESUMES
        ),
    ],
}
OTHERS = [f"{name}, one by one" for name in beside.PEERS]
TARGETS = [
    Target("one by one to the ceiling", 0.72, "ours, one by one", ["ceiling: gather and to_pylist"]),
    Target("one by one to the fastest peer", 2, "ours, one by one", OTHERS),
    Target("one by one through the server to the fastest peer", 1.2, "ours, one by one, server", OTHERS),
    *(
        Target(f"one by one through the server to {name}", 15, "ours, one by one, server", [f"{name}, one by one"])
        for name in ("mosaicml", "webdataset", "datasets")
    ),
    Target("batches to one by one", 2, "ours, batches", ["ours, one by one"]),
    Target("batches, looked at, to one by one", 2, "ours, batches, looked at", ["ours, one by one"]),
    Target("batches through the server to bytes thrown away", 0.85, "ours, batches, server", [DRAINED]),
    Target(
        "messages of 4 MiB to messages of 1 MiB",
        0.95,
        f"{DRAINED}, messages of 4 MiB",
        [f"{DRAINED}, messages of 1 MiB"],
    ),
    Target(
        f"batches, looked at, through the server to {SERVICE}",
        4,
        "ours, batches, looked at, server",
        [f"{SERVICE}, batches"],
    ),
    Target(f"first sample after a resume{FIRST}", 0.15, f"ours, resumed at {RESUME_AT:,}{FIRST}", seconds=True),
    Target(
        f"first sample after a resume, server{FIRST}",
        0.15,
        f"ours, server, resumed at {RESUME_AT:,}{FIRST}",
        seconds=True,
    ),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=125_000, help="documents in each source")
    parser.add_argument("--bytes", type=int, default=2400, help="mean bytes of a document")
    beside.options(parser, CASES)
    options = parser.parse_args()
    groups = beside.groups_of(parser, options, CASES)
    with beside.folder_of(options.keep) as work:
        beside.corpus(work, "texts", partial(beside.write_texts, rows=options.rows, mean=options.bytes))
        if "resume" in groups:
            beside.corpus(work, "resume", partial(beside.write_texts, rows=200_000, mean=240))
        bench = Bench(work, options.peers, options.seconds, options.rounds, quiet=options.json)
        figures = bench.run([case for group in groups for case in CASES[group]])
    beside.report(
        "documents a second into the trainer's process",
        figures,
        TARGETS,
        top="ceiling: gather and to_pylist",
        as_json=options.json,
        seconds=FIRST,
    )


if __name__ == "__main__":
    main()
