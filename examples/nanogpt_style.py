"""A nanoGPT-style loop over packed rows of byte tokens (x and y) from a mix. It can resume at any step.

python examples/nanogpt_style.py --home HOME --mix web=0.7,code=0.3 --steps 50
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from torch import nn

from choline_data import FirehoseDataset


class Model(nn.Module):
    """A one-layer transformer over bytes."""

    def __init__(self, vocabulary: int, width: int, seq_len: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(seq_len, width)
        self.layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        hidden = self.tokens(x) + self.places(torch.arange(x.shape[1]))
        return self.head(self.layer(hidden, src_mask=mask, is_causal=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", help="home to read from")
    parser.add_argument("--server", help="server to read from, host:port")
    parser.add_argument("--mix", required=True, help="mix to train on")
    parser.add_argument("--steps", type=int, default=50, help="number of steps")
    parser.add_argument("--seq-len", type=int, default=64, help="tokens in a row")
    parser.add_argument("--checkpoint", type=Path, help="file to write; if it exists, the run continues from it")
    args = parser.parse_args()

    torch.manual_seed(0)
    rows = {"view": "tokens", "format": "nanogpt", "seq_len": args.seq_len, "batch_size": 8}
    dataset = FirehoseDataset(args.mix, home=args.home, server=args.server, **rows)
    model = Model(512, 64, args.seq_len)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    step = 0
    if args.checkpoint and args.checkpoint.exists():
        saved = torch.load(args.checkpoint, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        dataset.load_state_dict(json.loads(saved["data"]))
        step = saved["step"]

    for batch in dataset:
        logits = model(batch["x"])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch["y"].flatten(), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
        if step >= args.steps:
            break

    if args.checkpoint:
        saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        torch.save({**saved, "data": json.dumps(dataset.state_dict())}, args.checkpoint)


if __name__ == "__main__":
    main()
