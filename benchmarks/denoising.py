"""Denoising by the prior alone: PSNR at sigma 15, 25 and 50 of 255, on whole pictures.

python benchmarks/denoising.py --images PATH/bsds500/val [--average turns]
"""

import argparse
import statistics
from pathlib import Path

import torch

from scoresde.data.datasets import list_images
from scoresde.data.images import read_image
from scoresde.pipelines.devices import choose_device, open_prior


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument(
        "--count",
        type=int,
        default=None,
        help="number of pictures, the first by name; all by default",
    )
    parser.add_argument("--prior", default="natural")
    parser.add_argument("--average", default=None, help="a group of EquivariantPrior")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    a = parser.parse_args()
    prior = open_prior(a.prior, choose_device(a.device), a.precision, a.average)
    paths = list_images(a.images)[: a.count]
    for level in (15, 25, 50):
        sigma, values = 2 * level / 255, []
        for index, path in enumerate(paths):
            x = read_image(path)[None].to(prior.device)
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(index)).to(
                prior.device
            )
            with torch.no_grad():
                D = prior.denoise(x + sigma * noise, sigma).clamp(-1, 1)
            values.append(10 * torch.log10(4 / (D - x).double().square().mean()).item())
        print(
            f"sigma {level:2d}/255: {statistics.fmean(values):.2f} dB over {len(paths)} pictures",
            flush=True,
        )


if __name__ == "__main__":
    main()
