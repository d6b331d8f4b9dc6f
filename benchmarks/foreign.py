"""A denoiser of another team as a prior: FFDNet for three solvers, beside `natural`.

    python benchmarks/foreign.py --images PATH/bsds500/val --ffdnet PATH/ffdnet_color.safetensors

FFDNet (Zhang, Zuo and Zhang 2018) was trained for noise up to 75 of 255, which is 0.59 on [-1, 1],
and solvers of photographs begin at 5. It is run in two ways. Through the adapter, which knows the
levels of the training, so that the solvers begin at the largest of them; and as a prior that says
nothing about them, so that the solvers begin where they always do, and the network is told 75/255
until the noise falls below. On the five problems of restoration.py, on few and small crops: the
differences between the rows matter, not the second decimal. Also its PSNR as a denoiser through
DenoiserPrior, against that of the module alone. Each finished cell is kept in foreign.json, so that
an interrupted run resumes. Writes foreign.md beside it.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from denoising import PUBLISHED_LEVELS, noise
from ffdnet import LARGEST_NOISE, FFDNet, open_ffdnet
from five_problems import PROBLEMS, SIGMA, operators
from tables import RESULTS, Cells, short_command, table, weights_id, write_page
from torch import Tensor

from problems import GaussianNoise, InverseProblem
from scoresde import DenoiserPrior
from scoresde.data.datasets import list_images
from scoresde.data.images import centre_crop, read_image
from scoresde.evaluation import psnr, ssim
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.priors.adapted import from_ffdnet_like
from scoresde.priors.base import Prior
from solvers import PointEstimator, make_solver

SOLVERS = ("hqs", "diffpir", "mmps")
NATURAL, BOUNDED, UNBOUNDED = "natural", "FFDNet, its levels", "FFDNet, all levels"
PRIORS = (NATURAL, BOUNDED, UNBOUNDED)


def priors(ffdnet: Path, device: torch.device) -> dict[str, Callable[[], Prior]]:
    """How each prior is made."""

    def bounded() -> Prior:
        return from_ffdnet_like(open_ffdnet(ffdnet, device).network, (3, 64, 64)).to(device)

    return {
        NATURAL: lambda: open_prior(NATURAL, device, "auto"),
        BOUNDED: bounded,
        UNBOUNDED: lambda: open_ffdnet(ffdnet, device),
    }


def watched(prior: Prior) -> list[float]:
    """A list to which every evaluation of the prior appends its noise level."""
    seen: list[float] = []
    inner = prior._denoise

    def _denoise(x_t: Tensor, t: Tensor) -> Tensor:
        seen.append(float(prior.sde.noise_to_signal(t).max()))
        return inner(x_t, t)

    prior._denoise = _denoise  # type: ignore[method-assign]
    return seen


def restored(
    prior: Prior, name: str, problem: InverseProblem, truth: Tensor, draws: int, seed: int
) -> dict[str, float]:
    """Scores of the mean and of one draw, the cost, and the first noise level."""
    y = problem.measure(truth, torch.Generator().manual_seed(seed)).to(prior.device)
    solver, seen = make_solver(name), watched(prior)
    count = 1 if isinstance(solver, PointEstimator) else draws
    generator = torch.Generator().manual_seed(seed)
    try:
        found = solver.sample(prior, problem, y, count, generator=generator)
    finally:
        del prior._denoise
    mean, one = found.mean.cpu(), found.draws[0].cpu()
    return {
        "mean": psnr(mean, truth).item(),
        "mean_ssim": ssim(mean, truth).item(),
        "draw": psnr(one, truth).item(),
        "nfe": found.nfe,
        "vjps": found.vjps,
        "first": max(seen),
        "points": float(count == 1),
    }


@torch.no_grad()
def denoised(network: FFDNet, x: Tensor, sigma: float, number: int) -> dict[str, float]:
    """PSNR of the module on [0, 1], and of the same module as a prior on [-1, 1].

    Args:
        network: The module.
        x: Picture on [-1, 1], shape (1, 3, H, W).
        sigma: Noise level on [0, 1].
        number: Number of the picture, the seed of the noise.
    """
    limits = (0.0, LARGEST_NOISE / 2)
    prior = DenoiserPrior(network, (3, 64, 64), value_range=(0.0, 1.0), trained=limits)
    u = x + 2 * sigma * noise(number, x.shape).to(x)
    alone = 2 * network((u + 1) / 2, torch.full((1,), sigma).to(x)) - 1
    adapted = prior.denoise(u, 2 * sigma)
    return {
        "module": psnr(alone.clamp(-1, 1), x).item(),
        "prior": psnr(adapted.clamp(-1, 1), x).item(),
        "difference": float((alone - adapted).abs().max()),
    }


def mean_of(cells: list[dict[str, float]], what: str) -> float:
    return statistics.fmean(cell[what] for cell in cells)


def restoration_table(cells: Cells, what: str, form: str, pictures: list[str]) -> list[str]:
    """A row for each solver and prior, a column for each problem."""
    rows = []
    for solver in SOLVERS:
        for prior in PRIORS:
            row = [f"`{solver}`", prior]
            for problem in PROBLEMS:
                found = [cells.get(f"{problem}/{solver}/{prior}/{one}") for one in pictures]
                done = all(cell is not None for cell in found)
                missing = not done or (what == "draw" and found[0]["points"])
                row.append("" if missing else f"{mean_of(found, what):{form}}")
            if any(row[2:]):
                rows.append(row)
    return table(("solver", "prior", *PROBLEMS), rows)


def cost_table(cells: Cells) -> list[str]:
    """The first noise level of each solver with each prior, and the evaluations of a draw."""
    rows = []
    for solver in SOLVERS:
        for prior in PRIORS:
            found = [v for p in PROBLEMS for v in cells.under(f"{p}/{solver}/{prior}/")]
            if found:
                low, high = (end(cell["first"] for cell in found) for end in (min, max))
                first = (
                    f"{low:.2f}" if f"{low:.2f}" == f"{high:.2f}" else f"{low:.2f} to {high:.2f}"
                )
                nfe, vjps = (round(mean_of(found, key)) for key in ("nfe", "vjps"))
                rows.append([f"`{solver}`", prior, first, f"{nfe} + {vjps}"])
    return table(("solver", "prior", "first noise level", "NFE + products / draw"), rows)


def page(cells: Cells, pictures: list[str], a: argparse.Namespace, command: str) -> list[str]:
    numbers = {level: cells.under(f"denoise/{level}/") for level in PUBLISHED_LEVELS}
    rows = [
        [
            f"{level}/255",
            f"{mean_of(found, 'module'):.3f}",
            f"{mean_of(found, 'prior'):.3f}",
            f"{max(cell['difference'] for cell in found):.1g}",
        ]
        for level, found in numbers.items()
        if found
    ]
    count = len(numbers[PUBLISHED_LEVELS[0]])
    return [
        f"# FFDNet as a prior: {len(pictures)} crops of {a.side}×{a.side}, {a.draws} draws",
        "",
        f"Centre crops of the first {len(pictures)} pictures, noise σ = {SIGMA} on [−1, 1], the "
        f"problems of [restoration.md](restoration.md), but small crops and {a.draws} draws: a "
        "look at what another denoiser does in these solvers, no ranking. `hqs` gives an estimate "
        f"and no draws. `{NATURAL}` ({weights_id(NATURAL)}) was trained on pictures of the same "
        "collection (not on these), FFDNet on others too.",
        "",
        f"`{command}`",
        "",
        f"**{BOUNDED}**: `from_ffdnet_like`, which knows that the training ends at 75/255, "
        f"{LARGEST_NOISE:.2f} on [−1, 1]. Solvers whose first level is in units of the data begin "
        f"there. **{UNBOUNDED}**: a prior that does not tell; the solvers begin where they do for "
        "photographs, and above its levels the network is told 75/255.",
        "",
        "How to read it. `hqs` stays within the levels of FFDNet in any case. `diffpir` and `mmps` "
        "do not: told 75/255 where there is more noise, FFDNet leaves nearly half of it, and what "
        "follows is built on that; `mmps` warns that the Jacobian is no covariance and that the "
        "draws do not explain the measurement. Begun at the largest level of the training both "
        "work. But then they begin with noise around mid-grey, as if nothing were left of the "
        "picture at this level: what the measurement sees comes back, and a hole stays near grey. "
        "(`hqs` begins with an estimate of the picture.)",
        "",
        "## PSNR of the estimate, or of the mean of the draws, in dB",
        "",
        *restoration_table(cells, "mean", ".2f", pictures),
        "",
        "## PSNR of one draw, in dB",
        "",
        *restoration_table(cells, "draw", ".2f", pictures),
        "",
        "## SSIM of the estimate, or of the mean of the draws",
        "",
        *restoration_table(cells, "mean_ssim", ".3f", pictures),
        "",
        "## Where the solvers begin, and what they cost",
        "",
        "Noise levels are ratios of noise to signal on [−1, 1], the largest that the prior was "
        "asked for.",
        "",
        *cost_table(cells),
        "",
        f"## FFDNet as a denoiser, {count} whole pictures",
        "",
        "PSNR in dB of the module on [0, 1] and of `DenoiserPrior` around it on [−1, 1], the same "
        "noise; the largest difference of a value is that of rounding in float32.",
        "",
        *table(("σ", "module", "DenoiserPrior", "largest difference"), rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--ffdnet", type=Path, required=True, help="file of the weights of FFDNet")
    parser.add_argument("--count", type=int, default=4, help="pictures that are restored")
    parser.add_argument("--side", type=int, default=96, help="side of the crops, in pixels")
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--every", type=int, default=5, help="5: denoise every fifth picture")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    device, paths, cells = (
        choose_device(a.device),
        list_images(a.images),
        Cells(a.out / "foreign.json"),
    )
    chosen = paths[: a.count]
    pictures = [path.stem for path in chosen]
    command = short_command("foreign.py", sys.argv[1:])

    def write() -> None:
        write_page(a.out / "foreign.md", page(cells, pictures, a, command))

    for prior_name, make in priors(a.ffdnet, device).items():
        prior = make()
        for index, path in enumerate(chosen):
            truth = centre_crop(path, a.side)
            for problem, operator in operators(index, a.side).items():
                measurement = InverseProblem(operator, GaussianNoise(SIGMA))
                for solver in SOLVERS:
                    key = f"{problem}/{solver}/{prior_name}/{path.stem}"
                    if key not in cells:
                        cells.put(key, restored(prior, solver, measurement, truth, a.draws, index))
            print(f"{prior_name}: {index + 1}/{len(chosen)} {path.stem}", flush=True)
    network = open_ffdnet(a.ffdnet, device).network
    for number in range(0, len(paths), a.every):
        x = read_image(paths[number])[None].to(device)
        for level in PUBLISHED_LEVELS:
            key = f"denoise/{level}/{number}"
            if key not in cells:
                cells.put(key, denoised(network, x, level / 255, number))
    write()


if __name__ == "__main__":
    main()
