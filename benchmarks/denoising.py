"""Denoising by priors alone: PSNR at sigma 15, 25 and 50 of 255, and the curve over all levels.

    python benchmarks/denoising.py --images PATH/bsds500/val --every 5

On whole pictures in colour; the noise of a picture is seeded by its number in the folder. Several
priors stand side by side, and with --ffdnet FFDNet too, whose weights are not part of this package.
Each finished cell is kept in denoising.json, so that an interrupted run resumes. Writes
denoising.md beside it. With --count it is a quick look: it prints, and writes only if --out is
given.
"""

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from ffdnet import LARGEST_NOISE, open_ffdnet
from tables import RESULTS, read_json, table, weights_id, write_json, write_page
from torch import Tensor

from scoresde.data.datasets import list_images
from scoresde.data.images import read_image
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.priors.base import Prior

PUBLISHED_LEVELS = (15, 25, 50)
CURVE = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
DRUNET = {15: 34.30, 25: 31.69, 50: 28.51}
"""PSNR of DRUNet on CBSD68, which is another part of the same collection (Zhang et al. 2021)."""


def levels(curve: bool) -> list[float]:
    """Noise levels on [-1, 1], in ascending order."""
    named = [2 * level / 255 for level in PUBLISHED_LEVELS]
    return sorted([*named, *CURVE]) if curve else named


def key(name: str, sigma: float, number: int) -> str:
    return f"{name}/{sigma:.5f}/{number}"


def noise(number: int, shape: torch.Size) -> Tensor:
    """The standard normal numbers of a picture, by its number in the folder."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(number))


@torch.no_grad()
def denoised_psnr(prior: Prior, x: Tensor, sigma: float, number: int) -> float:
    """PSNR in dB of the denoised picture, clipped to [-1, 1]."""
    x = x.to(prior.device)
    D = prior.denoise(x + sigma * noise(number, x.shape).to(x), sigma).clamp(-1, 1)
    return float(10 * torch.log10(4 / (D - x).double().square().mean()))


def means(cells: dict[str, float], names: list[str], numbers: list[int], sigma: float) -> list[str]:
    """A cell of each prior; empty unless all pictures are done."""
    row = []
    for name in names:
        values = [cells.get(key(name, sigma, number)) for number in numbers]
        known = [value for value in values if value is not None]
        row.append(f"{statistics.fmean(known):.2f}" if len(known) == len(numbers) else "")
    return row


def page(
    cells: dict[str, float], labels: dict[str, str], numbers: list[int], facts: str, command: str
) -> list[str]:
    names, titles = list(labels), list(labels.values())
    published = [
        [f"{level}/255", *means(cells, names, numbers, 2 * level / 255), f"{DRUNET[level]:.2f}"]
        for level in PUBLISHED_LEVELS
    ]
    curve = [[f"{sigma:g}", *means(cells, names, numbers, sigma)] for sigma in CURVE]
    lines = [facts, "", f"`{command}`", ""]
    lines += table(("σ", *titles, "DRUNet"), published)
    lines += [
        "",
        "DRUNet: its published values on CBSD68 (Zhang et al. 2021), 68 other pictures of the same "
        "collection; to be read as an order of magnitude. It has 32.6 M parameters.",
    ]
    if any(any(row[1:]) for row in curve):
        lines += ["", "## All noise levels, σ on [−1, 1]", "", *table(("σ", *titles), curve)]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--every", type=int, default=1, help="5 for every fifth picture by name")
    parser.add_argument(
        "--count", type=int, default=None, help="a quick look at the first of them, this many"
    )
    parser.add_argument("--prior", nargs="+", default=["natural"], help="names or files")
    parser.add_argument("--ffdnet", type=Path, default=None, help="file of the weights of FFDNet")
    parser.add_argument("--no-curve", action="store_true", help="the three usual levels alone")
    parser.add_argument("--average", default=None, help="a group of EquivariantPrior")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=None, help="folder for the results")
    a = parser.parse_args()
    device = choose_device(a.device)
    everyone = list_images(a.images)
    numbers = list(range(0, len(everyone), a.every))[: a.count]
    out = a.out or (RESULTS if a.count is None else None)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)

    made: dict[str, Callable[[], Prior]] = {}
    labels: dict[str, str] = {}
    given_precision = "" if a.precision == "auto" else f" {a.precision}"
    setting = (f" {a.average}" if a.average else "") + given_precision
    for given in a.prior:
        name = f"{weights_id(given)}{setting}"
        labels[name] = f"{Path(given).stem} ({weights_id(given)}){setting}"
        made[name] = lambda given=given: open_prior(given, device, a.precision, a.average)
    if a.ffdnet is not None:
        labels["FFDNet"], made["FFDNet"] = "FFDNet", lambda: open_ffdnet(a.ffdnet, device)

    cells: dict[str, float] = {} if out is None else read_json(out / "denoising.json", {})
    chosen = levels(curve=not (a.no_curve or a.count is not None))
    for name, make in made.items():
        prior = make()
        for number in numbers:
            wanted = [s for s in chosen if key(name, s, number) not in cells]
            if name == "FFDNet":
                wanted = [s for s in wanted if s <= LARGEST_NOISE]
            if not wanted:
                continue
            x = read_image(everyone[number])[None]
            for sigma in wanted:
                cells[key(name, sigma, number)] = denoised_psnr(prior, x, sigma, number)
            if out is not None:
                write_json(cells, out / "denoising.json")
        for level in PUBLISHED_LEVELS:
            (value,) = means(cells, [name], numbers, 2 * level / 255)
            print(
                f"{labels[name]}: sigma {level:2d}/255: {value} dB over {len(numbers)} pictures",
                flush=True,
            )
    if out is not None:
        which = "" if a.every == 1 else f", every {a.every}th by name"
        facts = (
            f"{len(numbers)} pictures of BSDS500's validation part{which}, whole, in colour; PSNR "
            "in dB. The number in brackets is the beginning of the SHA-256 of the weights. FFDNet "
            f"has no values above its largest noise level, {LARGEST_NOISE:.2f}."
        )
        options = [f"--every {a.every}" if a.every > 1 else ""]
        options += ["--prior " + " ".join(Path(p).name for p in a.prior)] * (a.prior != ["natural"])
        options += [f"--ffdnet {a.ffdnet.name}" if a.ffdnet else ""]
        options += [f"--average {a.average}" if a.average else ""]
        options += ["--no-curve" if a.no_curve else ""]
        command = "python benchmarks/denoising.py --images bsds500/val"
        command = " ".join(filter(None, [command, *options]))
        write_page(out / "denoising.md", page(cells, labels, numbers, facts, command))


if __name__ == "__main__":
    main()
