"""The main job end to end, on data that is on every machine: add three datasets, serve them, train, die, resume.

make demo            a minute of training
python examples/demo.py --steps 40    shorter
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path

MIX = {"python": 0.6, "topics": 0.3, "tables": 0.1}
SEQ_LEN = 128
BATCH = 16


def cli(home: str, *words: str) -> str:
    """Runs `choline-data` and shows what a person at the terminal would see."""
    print(f"\n$ choline-data {' '.join(words)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "choline_data", *words, "--home", home],
        text=True,
        capture_output=True,
        timeout=300,
    )
    print("\n".join((done.stderr + done.stdout).strip().splitlines()[-14:]), flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def sources(folder: Path) -> dict[str, Path]:
    """Makes three datasets from files of Python and scikit-learn: source code, documentation topics, a table."""
    from pydoc_data.topics import topics

    code = folder / "python"
    code.mkdir()
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.glob("*.py"))[:120]:
        shutil.copy(path, code / path.name)
    topic_lines = folder / "topics.jsonl"
    topic_lines.write_text(
        "".join(json.dumps({"topic": name, "text": text}) + "\n" for name, text in sorted(topics.items()))
    )
    import sklearn.datasets

    table = Path(sklearn.datasets.__file__).parent / "data" / "breast_cancer.csv"
    return {"python": code, "topics": topic_lines, "tables": table}


def serve(home: str) -> tuple[subprocess.Popen[str], str]:
    """Starts a server on a free port. Returns the process and its address."""
    server = subprocess.Popen(
        [sys.executable, "-m", "choline_data", "serve", "--port", "0", "--json", "--home", home],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    return server, json.loads(server.stdout.readline())["address"]


def train(address: str, home: str, folder: Path, steps: int, die_at: int) -> None:
    """Trains from the stream and writes a checkpoint every 5 steps. Kills its own process at step `die_at`."""
    import torch
    from torch import nn

    from choline_data import FirehoseDataset

    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = FirehoseDataset(
        MIX,
        server=address,
        view="tokens",
        tokenizer="bytes",
        seq_len=SEQ_LEN,
        batch_size=BATCH,
        format="nanogpt",
    )

    class Tiny(nn.Module):
        def __init__(self, width: int = 96) -> None:
            super().__init__()
            self.tokens, self.places = nn.Embedding(258, width), nn.Embedding(SEQ_LEN, width)
            layer = nn.TransformerEncoderLayer(width, 4, width * 4, dropout=0.0, batch_first=True, norm_first=True)
            self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.head = nn.Linear(width, 258)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
            return self.head(self.body(self.tokens(x) + self.places.weight[: x.shape[1]], mask=seen, is_causal=True))

    model = Tiny()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    step, checkpoint = 0, folder / "checkpoint.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        data.load_state_dict(json.loads(saved["data"]))
        step = saved["step"]
        print(f"resumed at step {step}, position {json.loads(saved['data'])['position']}", flush=True)
    with open(folder / "log.jsonl", "a") as log:
        for batch in data:
            logits = model(batch["x"])
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch["y"].flatten(), ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rows = list(zip(batch["position"].tolist(), batch["dataset"], strict=True))
            log.write(json.dumps({"step": step, "loss": loss.item(), "rows": rows}) + "\n")
            log.flush()
            step += 1
            if step % 5 == 0:
                parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
                torch.save({**parts, "data": json.dumps(data.state_dict())}, f"{checkpoint}.new")
                os.replace(f"{checkpoint}.new", checkpoint)
            if step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            if step >= steps:
                return


def curve(losses: list[float], width: int = 64, height: int = 8) -> str:
    """A plot of the loss over the steps, in characters."""
    cells = [losses[i * len(losses) // width : (i + 1) * len(losses) // width] or [losses[-1]] for i in range(width)]
    means = [sum(cell) / len(cell) for cell in cells]
    low, high = min(means), max(means)
    lines = []
    for row in range(height):
        level = high - (high - low) * row / (height - 1)
        marks = "".join("•" if abs(m - level) <= (high - low) / (2 * (height - 1)) else " " for m in means)
        lines.append(f"{level:6.2f} ┤{marks}")
    return "\n".join(lines)


def report(folder: Path) -> None:
    """Prints what was trained on and in which shares. Checks that every position was used exactly once."""
    by_step = {entry["step"]: entry for entry in map(json.loads, (folder / "log.jsonl").read_text().splitlines())}
    steps = [by_step[step] for step in sorted(by_step)]
    positions = [position for entry in steps for position, _ in entry["rows"]]
    assert positions == list(range(len(positions))), "a position was lost or repeated"
    served = Counter(name for entry in steps for _, name in entry["rows"])
    print("\nloss")
    print(curve([entry["loss"] for entry in steps]))
    print(f"\n{'dataset':10} {'asked':>7} {'served':>7} {'rows':>7}")
    for name, share in MIX.items():
        print(f"{name:10} {share:7.1%} {served[name] / len(positions):7.1%} {served[name]:7,}")
    print(f"\npositions 0 to {len(positions) - 1}: each was trained on exactly once, over a kill -9 and a resume.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=240, help="number of training steps")
    parser.add_argument("--train", nargs=3, metavar=("ADDRESS", "FOLDER", "DIE_AT"), help=argparse.SUPPRESS)
    parser.add_argument("--home", default="", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.train:
        train(wanted.train[0], wanted.home, Path(wanted.train[1]), wanted.steps, int(wanted.train[2]))
        return
    with tempfile.TemporaryDirectory(prefix="choline-demo-") as temporary:
        folder = Path(temporary)
        home = str(folder / "home")
        for name, path in sources(folder).items():
            cli(home, "add", str(path), "--name", name, "--yes")
        cli(home, "list")
        cli(home, "head", "topics", "-n", "1")
        cli(home, "tokenize", *MIX, "--tokenizer", "bytes")
        server, address = serve(home)
        try:
            print(f"\nserving on {address}; training a tiny transformer for {wanted.steps} steps", flush=True)
            again = [
                sys.executable,
                __file__,
                "--steps",
                str(wanted.steps),
                "--home",
                home,
                "--train",
                address,
            ]
            started = time.monotonic()
            killed = subprocess.run([*again, str(folder), str(wanted.steps // 2 + 3)], timeout=600)
            assert killed.returncode == -signal.SIGKILL, f"the trainer ended with {killed.returncode}"
            print(f"the trainer died (exit {killed.returncode}); starting it again", flush=True)
            subprocess.run([*again, str(folder), "0"], timeout=600, check=True)
            print(f"trained in {time.monotonic() - started:.0f} s", flush=True)
            report(folder)
        finally:
            server.terminate()
            server.wait(30)


if __name__ == "__main__":
    main()
