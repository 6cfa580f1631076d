"""An image classifier: image bytes from the store become tensors of one size, and label names become numbers.

python examples/vision.py --home HOME --mix pictures
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from choline_data import FirehoseDataset


class Numbered:
    """Replaces a label's name with its number. It is a class, so that spawned workers can unpickle it."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __call__(self, sample: dict) -> dict:
        return {**sample, "label": self.names.index(sample["label"][0]["name"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", help="home to read from")
    parser.add_argument("--server", help="server to read from, host:port")
    parser.add_argument("--mix", required=True, help="mix to train on")
    parser.add_argument("--labels", required=True, help="names of the labels, separated by commas")
    parser.add_argument("--size", type=int, default=16, help="height and width of the images")
    parser.add_argument("--steps", type=int, default=30, help="number of steps")
    parser.add_argument("--workers", type=int, default=0, help="number of worker processes")
    args = parser.parse_args()

    torch.manual_seed(0)
    names = args.labels.split(",")
    dataset = FirehoseDataset(
        args.mix,
        home=args.home,
        server=args.server,
        batch_size=8,
        format="tensor",
        size=args.size,
        transform=Numbered(names),
        on_error="skip",
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * args.size**2, len(names)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step, batch in zip(range(args.steps), dataset.loader(num_workers=args.workers), strict=False):
        loss = nn.functional.cross_entropy(model(batch["image"]), batch["label"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 10 == 0:
            print(f"step {step + 1}: loss {loss.item():.3f}", flush=True)


if __name__ == "__main__":
    main()
