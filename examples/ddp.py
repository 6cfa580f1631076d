"""Two processes with gloo. Each reads its part of every global step. One state resumes any number of processes.

torchrun --nproc-per-node 2 examples/ddp.py --home HOME --mix web
"""

from __future__ import annotations

import argparse

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from choline_data import FirehoseDataset


def features(sample: dict) -> dict:
    """A toy problem: predict the length of a text from the counts of its letters."""
    text = (sample["text"] or "").lower()
    counts = [float(text.count(letter)) for letter in "aeinostr"]
    return {"x": torch.tensor(counts), "y": torch.tensor([float(len(text))]), "position": sample["position"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", help="home to read from")
    parser.add_argument("--server", help="server to read from, host:port")
    parser.add_argument("--mix", required=True, help="mix to train on")
    parser.add_argument("--steps", type=int, default=20, help="number of steps")
    args = parser.parse_args()

    dist.init_process_group("gloo")
    dataset = FirehoseDataset(
        args.mix, home=args.home, server=args.server, batch_size=4, transform=features, columns=["text"]
    )
    model = DistributedDataParallel(nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for step, batch in zip(range(args.steps), dataset, strict=False):
        loss = nn.functional.mse_loss(model(batch["x"]), batch["y"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if dist.get_rank() == 0 and step == args.steps - 1:
            print(f"step {step + 1}: loss {loss.item():.3f}")
    print(f"rank {dist.get_rank()}: next position {dataset.state_dict()['position']}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
