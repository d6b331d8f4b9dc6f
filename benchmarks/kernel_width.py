"""How often the spectrum of a photograph names a kernel that is too narrow, and right ones.

    python benchmarks/kernel_width.py --images ../shared/data/bsds500/val

Crops of 160 and 256 pixels a side, blurred by the stated kernel, and by kernels 1.5 and 2 times as
wide. Nothing is restored: the check (scoresde/evaluation/residual/seen_width.py) needs the
measurement alone. Writes kernel_width.json and kernel_width.md.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from tables import RESULTS, table, write_json, write_page

from problems import (
    Blur,
    DiskBlur,
    GaussianBlur,
    GaussianNoise,
    InverseProblem,
    MotionBlur,
)
from problems.operators.convolution import Convolution
from scoresde.data.datasets import list_images
from scoresde.data.images import read_image
from scoresde.evaluation.residual.seen_width import seen_width

SIDES, SIGMAS, FACTORS = (160, 256), (0.01, 0.05), (1.0, 1.5, 2.0)
KERNELS: dict[str, dict[float, Convolution]] = {
    **{
        f"Gaussian, std {std}": {f: GaussianBlur(std * f, "reflect") for f in FACTORS}
        for std in (0.5, 0.7, 1.0, 1.6, 3.0)
    },
    **{
        f"disk, radius {radius}": {f: DiskBlur(radius * f, "reflect") for f in FACTORS}
        for radius in (1.5, 3.0)
    },
    **{
        f"motion, length {n}": {f: MotionBlur(n * f, 30.0, "reflect") for f in FACTORS}
        for n in (5, 12)
    },
    "box 4×4, as a given kernel": {
        f: Blur(torch.full((round(4 * f),) * 2, (4 * f) ** -2), "reflect") for f in FACTORS
    },
}


def _by_case(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The factors that were found in the pictures, and how many of them are named."""
    cases: dict[str, dict[str, Any]] = {}
    for c in cells:
        name = f"{c['kernel']}/{c['side']}/{c['sigma']}/{c['factor']:g}"
        case = cases.setdefault(name, {"wider": 0, "found": []})
        case["wider"] += c["wider"]
        case["found"].append(c["found"])
    return {
        name: {"wider": case["wider"], "found": " ".join(f"{f:.2f}" for f in case["found"])}
        for name, case in cases.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    start, cells = time.perf_counter(), []
    files = list_images(a.images)[: a.count]
    for number, path in enumerate(files):
        whole = read_image(path)[None]
        for side in SIDES:
            g = torch.Generator().manual_seed(number)
            top, left = (
                int(torch.randint(0, n - side + 1, (), generator=g)) for n in whole.shape[-2:]
            )
            x = whole[..., top : top + side, left : left + side]
            for name, kernels in KERNELS.items():
                stated = InverseProblem(kernels[1.0], GaussianNoise(1.0))
                for sigma in SIGMAS:
                    problem = replace(stated, noise=GaussianNoise(sigma))
                    for factor, kernel in kernels.items():
                        noise = torch.Generator().manual_seed(number)
                        y = replace(problem, operator=kernel).measure(x, noise)
                        one = seen_width(problem, y)
                        assert one is not None
                        cells.append({"side": side, "kernel": name,
                                      "sigma": sigma, "factor": factor, "wider": one.wider,
                                      "found": round(one.factor, 4)})  # fmt: skip
        print(path.stem, f"{time.perf_counter() - start:.0f} s", flush=True)
    write_json(_by_case(cells), a.out / "kernel_width.json")
    rows: list[list[object]] = []
    for name in KERNELS:
        for side in SIDES:
            group = [c for c in cells if (c["kernel"], c["side"]) == (name, side)]
            rows.append([name, side] + [
                sum(c["wider"] for c in group if (c["factor"], c["sigma"]) == (factor, sigma))
                for factor in FACTORS for sigma in SIGMAS
            ])  # fmt: skip
    right = [c for c in cells if c["factor"] == 1.0]
    head = [f"{'right' if f == 1 else f'{f:g} × as wide'}, {s:g}" for f in FACTORS for s in SIGMAS]
    write_page(
        a.out / "kernel_width.md",
        [
            f"Random crops of {len(files)} photographs of bsds500/val, blurred by the stated "
            "kernel and by wider ones, with noise on [-1, 1] as the heads say: numbers of "
            "measurements whose kernel is said to be wider than stated.",
            "",
            "`python benchmarks/kernel_width.py --images ../shared/data/bsds500/val`",
            "",
            f"Of {len(right)} right kernels {sum(c['wider'] for c in right)} are suspected.",
            "",
            *table(["stated kernel", "side", *head], rows),
        ],
    )


if __name__ == "__main__":
    main()
