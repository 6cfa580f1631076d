"""Packed tokens a second into the trainer's process: embedded and through a server, beside a bare gather from the flat file.

    python bench/tokens.py            # a table
    python bench/tokens.py --json

Batches are 8 rows of 2048, int64 `x` and `y`. The ceiling gathers windows at random offsets of the memory-mapped file and
splits them, as nanoGPT's loop does, with nothing around it. The figure is the best of `--rounds` rounds, which take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROWS, SEQ_LEN = 8, 2048


def made(home: str, megabytes: int) -> Path:
    """A dataset `web` of about this size, tokenized as bytes; the file with its tokens."""
    from choline_data.home import Home
    from choline_data.tokens.store import TokenKey, tokenize
    from choline_data.tokens.tokenizers import Tokenizer

    source = Path(home).parent / "web.jsonl"
    letters = np.random.default_rng(0).integers(97, 123, 1 << 20).astype(np.uint8).tobytes().decode()
    with open(source, "w") as file:
        for start in range(0, megabytes << 20, 2400):
            at = start % (len(letters) - 2400)
            file.write(json.dumps({"text": letters[at : at + 2400]}) + "\n")
    words = [
        sys.executable,
        "-m",
        "choline_data",
        "add",
        str(source),
        "--name",
        "web",
        "--yes",
        "--json",
        "--home",
        home,
    ]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    revision = json.loads(told.strip().splitlines()[-1])["revision"]
    tokenizer = Tokenizer("bytes")
    tokenize(Home(home), revision, tokenizer)
    return Path(home) / TokenKey(revision, tokenizer.digest, "eos").folder / "tokens.bin"


def ceiling(path: Path) -> Iterator[int]:
    """Random windows of the mapped file as x and y."""
    import torch

    flat = np.memmap(path, np.uint16, "r")
    windows = np.lib.stride_tricks.sliding_window_view(flat, SEQ_LEN + 1)
    draw = np.random.default_rng(0)
    while True:
        rows = windows[draw.integers(0, len(windows), ROWS)]
        x = torch.from_numpy(rows[:, :-1].astype(np.int64, order="C"))
        y = torch.from_numpy(rows[:, 1:].astype(np.int64, order="C"))
        yield x.numel() if len(y) else 0


def ours(**options: Any) -> Iterator[int]:
    """The same batches of the stream."""
    from choline_data import FirehoseDataset

    dataset = FirehoseDataset("web", view="tokens", format="nanogpt", seq_len=SEQ_LEN, batch_size=ROWS, **options)
    for batch in dataset:
        yield batch["x"].numel()


def rate(items: Iterator[int], seconds: float) -> float:
    """Tokens a second of what comes from here, once it runs."""
    for _ in range(20):
        next(items)
    tokens, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        for _ in range(20):
            tokens += next(items)
    return tokens / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each case in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="choline-bench-") as folder:
        home = f"{folder}/home"
        path = made(home, wanted.megabytes)
        server = subprocess.Popen(
            [sys.executable, "-m", "choline_data.service", "--home", home, "--port", "0", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())["address"]
            cases: dict[str, Callable[[], Iterator[int]]] = {
                "ceiling": lambda: ceiling(path),
                "embedded": lambda: ours(home=home),
                "remote": lambda: ours(server=address),
            }
            best = dict.fromkeys(cases, 0.0)
            for _ in range(wanted.rounds):
                for name, case in cases.items():
                    best[name] = max(best[name], rate(case(), wanted.seconds))
        finally:
            server.terminate()
            server.wait(30)
    for name, tokens in best.items():
        ratio = tokens / best["ceiling"]
        if wanted.json:
            print(json.dumps({"case": name, "tokens_per_second": round(tokens), "ratio": round(ratio, 3)}))
        else:
            print(f"{name:10} {tokens / 1e6:8.1f} M tokens/s   {ratio:5.2f} of the ceiling")


if __name__ == "__main__":
    main()
