"""``make demo``: three photographs, three kinds of damage, one prior.

python -m scoresde.pipelines.demo --out out/demo
"""

import argparse
import time
from pathlib import Path
from typing import Any

import skimage.data
import torch
from torch import Tensor

from problems import (
    GaussianNoise,
    Inpainting,
    InverseProblem,
    LinearOperator,
    MotionBlur,
    SuperResolution,
    box_mask,
)
from scoresde.data.figures import sheet
from scoresde.files import check_writable, write_json
from scoresde.pipelines.restore import (
    RestoreOptions,
    choose_device,
    open_prior,
    panels,
    restore_tensor,
    scores,
)

__all__ = ["SCENES", "demo"]

SIGMA = 0.05
SIDE = 160

Scene = tuple[str, str, LinearOperator, tuple[int, int]]

# picture of scikit-image (public domain or CC0), damage, operator, top left corner of the crop
SCENES: list[Scene] = [
    (
        "astronaut",
        "box inpainting, 40×40",
        Inpainting(box_mask(SIDE, SIDE, 96, 20, 40, 40)),
        (0, 130),
    ),
    ("chelsea", "motion deblurring, 15 taps", MotionBlur(15, 30.0), (60, 130)),
    ("coffee", "super-resolution ×4", SuperResolution(4), (60, 230)),
]


def photograph(name: str, corner: tuple[int, int]) -> Tensor:
    """A crop of a picture that scikit-image ships, (1, 3, SIDE, SIDE) in [-1, 1]."""
    picture = torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1).float() / 127.5 - 1
    top, left = corner
    return picture[None, :, top : top + SIDE, left : left + SIDE].contiguous()


def demo(out: Path, options: RestoreOptions) -> dict[str, Any]:
    """Restore the three scenes, write ``sheet.png`` and ``report.json`` into ``out``, return the report."""
    check_writable(out)
    prior = open_prior(
        options.prior,
        choose_device(options.device),
        options.precision,
        options.average,
        recompute=True,
    )
    rows, reports, start = [], [], time.perf_counter()
    for index, (name, title, operator, corner) in enumerate(SCENES):
        truth = photograph(name, corner)
        problem = InverseProblem(operator, GaussianNoise(SIGMA))
        y = problem.measure(truth, torch.Generator().manual_seed(options.seed + index))
        posterior = restore_tensor(prior, problem, y, options)
        report: dict[str, Any] = {"picture": name, "problem": title} | scores(posterior, y, truth)
        report |= {"nfe": posterior.nfe, "seconds": round(posterior.seconds, 1)}
        rows.append(panels(posterior, y, truth, report))
        reports.append(report)
        mean = report["mean"]
        print(
            f"{name:10s} {title:28s} posterior mean {mean['psnr']:.2f} dB, SSIM {mean['ssim']:.3f}, {report['seconds']} s"
        )
    total = {
        "sigma": SIGMA, "sigma_units": "standard deviation on [-1, 1]", "solver": options.solver, "samples": options.samples,
        "seed": options.seed, "restoration_seconds": round(time.perf_counter() - start, 1), "scenes": reports,
    }  # fmt: skip
    sheet(rows, out / "sheet.png")
    write_json(total, out / "report.json")
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--prior", default="natural")
    parser.add_argument("--samples", type=int, default=8)
    arguments = parser.parse_args()
    total = demo(arguments.out, RestoreOptions(prior=arguments.prior, samples=arguments.samples))
    print(
        f"restored in {total['restoration_seconds']} s; see {arguments.out / 'sheet.png'} and {arguments.out / 'report.json'}"
    )


if __name__ == "__main__":
    main()
