"""A torchtitan-style step: one flat batch of packed documents. Labels and attention stay within each document.

python examples/torchtitan_style.py --home HOME --mix web=0.7,code=0.3 --steps 50
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from choline_data import FirehoseDataset


class Model(nn.Module):
    """One layer of attention over a flat batch. A position of 0 marks the start of a document."""

    def __init__(self, vocabulary: int, width: int, seq_len: int) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(seq_len, width)
        self.mixed = nn.Linear(width, 3 * width)
        self.head = nn.Linear(width, vocabulary)

    def forward(self, input: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        document = (positions == 0).cumsum(0)
        seen = (document[:, None] == document[None, :]).tril()
        hidden = self.tokens(input) + self.places(positions % self.places.num_embeddings)
        query, key, value = self.mixed(hidden).chunk(3, -1)
        return self.head(hidden + nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", help="home to read from")
    parser.add_argument("--server", help="server to read from, host:port")
    parser.add_argument("--mix", required=True, help="mix to train on")
    parser.add_argument("--steps", type=int, default=50, help="number of steps")
    parser.add_argument("--seq-len", type=int, default=64, help="tokens in a row")
    args = parser.parse_args()

    torch.manual_seed(0)
    rows = {"view": "tokens", "format": "torchtitan", "boundary": "bos+eos", "packing": "bfd"}
    dataset = FirehoseDataset(args.mix, home=args.home, server=args.server, **rows, seq_len=args.seq_len, batch_size=8)
    model = Model(258, 64, args.seq_len)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step, (inputs, labels) in enumerate(dataset, start=1):
        # A real trainer divides the sum by the number of unmasked labels on all ranks.
        total = nn.functional.cross_entropy(model(**inputs), labels, ignore_index=-100, reduction="sum")
        loss = total / (labels != -100).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
        if step >= args.steps:
            break


if __name__ == "__main__":
    main()
