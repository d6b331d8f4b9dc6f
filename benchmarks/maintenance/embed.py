"""Turn the result of a training run into an embedded prior.

    python benchmarks/maintenance/embed.py runs/natural/prior.safetensors natural \\
        "photographs, 64x64 and up"

The weights are stored in half precision, with a line of description in the header. With --out they
go to another file than that of the package. Samples without a measurement have the size of the
crops of the training, or that of --side.
"""

import argparse
from pathlib import Path

import torch

import scoresde
from scoresde import load_prior, save_prior


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    parser.add_argument("summary", help="the line that `scoresde list` shows")
    parser.add_argument("--out", type=Path, default=None, help="file to write")
    parser.add_argument("--side", type=int, default=None, help="height and width of a sample")
    a = parser.parse_args()
    prior = load_prior(a.checkpoint)
    if a.side is not None:
        prior.shape = (prior.shape[0], a.side, a.side)
    prior.card["summary"] = a.summary
    path = a.out or Path(scoresde.__file__).parent / "weights" / f"{a.name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_prior(prior, path, torch.float16)
    parameters = sum(p.numel() for p in prior.parameters()) / 1e6
    size = path.stat().st_size / 1e6
    print(f"wrote {path.name}: {parameters:.2f} M parameters, {size:.1f} MB")


if __name__ == "__main__":
    main()
