"""Unknown blurs on photographs: the estimated kernel, and what it costs in quality.

    python benchmarks/blind.py

Crops of photographs of scikit-image, noise of 0.02, prior natural. Beside the restoration with the
true kernel stand the one with the estimated kernel and blind Richardson-Lucy (Fish et al. 1995).
The estimate knows the noise level and the kind of the blur: Gaussian, disk, motion or any shape in
15x15 pixels, for which the shakes of a camera are simulated. Writes blind.json and blind.md.
"""

import argparse
import time
import warnings
from pathlib import Path

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import numpy as np
import torch
from model_check import crops
from scipy.signal import fftconvolve
from tables import RESULTS, read_json, table, write_json, write_page
from torch import Tensor

from problems import Blur, DiskBlur, GaussianBlur, GaussianNoise, InverseProblem, MotionBlur
from problems.operators.convolution import Convolution
from scoresde import load_prior
from scoresde.estimation.blur import estimate_blur
from scoresde.estimation.unknown_kernel import KERNEL_SIZE, estimate_kernel
from scoresde.evaluation import psnr
from solvers import make_solver

SIGMA, DRAWS = 0.02, 4
REACH = 4  # pixels of a shift between picture and kernel of any shape, which y does not tell


def shake(number: int, side: int = KERNEL_SIZE) -> Tensor:
    """A kernel (side, side): the path of a hand whose speed is a random walk."""
    g = torch.Generator().manual_seed(number)
    speed = 0.02 * torch.randn(400, 2, generator=g, dtype=torch.float64).cumsum(0)
    path = (speed + 0.3 * torch.randn(1, 2, generator=g, dtype=torch.float64)).cumsum(0)
    path = path - path.mean(0)
    path = path / path.abs().max() * (side // 2 - 1) + side // 2
    kernel = torch.zeros(side, side, dtype=torch.float64)
    for row, column in path.tolist():
        i, j = int(row), int(column)
        a, b = row - i, column - j
        kernel[i, j] += (1 - a) * (1 - b)
        kernel[i + 1, j] += a * (1 - b)
        kernel[i, j + 1] += (1 - a) * b
        kernel[i + 1, j + 1] += a * b
    return kernel / kernel.sum()


CASES: dict[str, tuple[str, Convolution]] = {
    "Gaussian 1": ("gaussian", GaussianBlur(1.0, "reflect")),
    "Gaussian 1.6": ("gaussian", GaussianBlur(1.6, "reflect")),
    "Gaussian 3": ("gaussian", GaussianBlur(3.0, "reflect")),
    "disk 3": ("disk", DiskBlur(3.0, "reflect")),
    "disk 1.5": ("disk", DiskBlur(1.5, "reflect")),
    "motion 9, 30°": ("motion", MotionBlur(9, 30.0, "reflect")),
    "motion 15, 100°": ("motion", MotionBlur(15, 100.0, "reflect")),
    "motion 9, 135°": ("motion", MotionBlur(9, 135.0, "reflect")),
    "motion 15, 45°": ("motion", MotionBlur(15, 45.0, "reflect")),
    "Gaussian 1.6, any shape": ("kernel", GaussianBlur(1.6, "reflect")),
    "motion 9, 30°, any shape": ("kernel", MotionBlur(9, 30.0, "reflect")),
    **{f"shake {n}": ("kernel", Blur(shake(n), "reflect")) for n in range(8)},
}


def kernel_error(found: Convolution, true: Convolution) -> float:
    """|k - k*| / |k*| of kernels on a common grid, at the best shift of a kernel of any shape."""
    side = max(one.taps.shape[-1] for one in (found, true))
    reach = REACH if isinstance(found, Blur) else 0
    a, b = (
        torch.nn.functional.pad(one.taps[0], [(side - one.taps.shape[-1]) // 2 + reach] * 4)
        for one in (found, true)
    )
    return min(float((torch.roll(a, s, (0, 1)) - b).norm() / b.norm()) for s in shifts(reach))


def shifts(reach: int) -> list[tuple[int, int]]:
    """All whole shifts of at most so many pixels along both axes."""
    return [(i, j) for i in range(-reach, reach + 1) for j in range(-reach, reach + 1)]


def aligned_psnr(picture: Tensor, x: Tensor, reach: int) -> float:
    """PSNR at the best whole shift, without a rim of this width."""
    inner = (..., slice(reach, x.shape[-2] - reach), slice(reach, x.shape[-1] - reach))
    return max(
        float(psnr(torch.roll(picture, s, (-2, -1))[inner], x[inner])) for s in shifts(reach)
    )


def richardson_lucy(y: Tensor, side: int, rounds: int = 10) -> list[Tensor]:
    """Blind Richardson-Lucy: kernel and picture in turn, from a flat kernel; all rounds."""
    z = np.pad(y[0].double().numpy() / 2 + 0.5, ((0, 0), (side, side), (side, side)), "reflect")
    z = z.clip(1e-3)
    x, k, found = z.copy(), np.full((side, side), 1 / side**2), []

    def ratio() -> np.ndarray:
        return z / np.maximum(np.stack([fftconvolve(c, k, "same") for c in x]), 1e-3)

    for _ in range(rounds):
        # correlation of ratio and picture, of which the lags of the kernel are in the middle
        lags = sum(fftconvolve(r, c[::-1, ::-1], "same") for r, c in zip(ratio(), x, strict=True))
        top, left = (n // 2 - side // 2 for n in x.shape[1:])
        k = (k * lags[top : top + side, left : left + side]).clip(0)
        k = k / k.sum()
        x = x * np.stack([fftconvolve(r, k[::-1, ::-1], "same") for r in ratio()]).clip(0)
        shown = torch.from_numpy(x[:, side:-side, side:-side] * 2 - 1).float().clamp(-1, 1)
        found.append(shown[None])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1)
    parser.add_argument("--side", type=int, default=144)
    parser.add_argument("--blur", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    warnings.filterwarnings("ignore")
    prior, cells = load_prior("natural"), read_json(a.out / "blind.json", [])
    solver = make_solver("warm-start", 6)

    def restored(problem: InverseProblem, y: Tensor, x: Tensor, reach: int) -> float:
        g = torch.Generator().manual_seed(1)
        return aligned_psnr(solver.sample(prior, problem, y, DRAWS, generator=g).mean, x, reach)

    for number, (name, (kind, operator)) in enumerate(CASES.items()):
        for picture in range(a.pictures if name in a.blur else 0):
            if any(c["blur"] == name and c["picture"] == picture for c in cells):
                continue  # an interrupted run goes on
            x = crops(a.pictures * len(CASES), a.side)[number + picture * len(CASES)]
            problem = InverseProblem(operator, GaussianNoise(SIGMA))
            y = problem.measure(x, torch.Generator().manual_seed(number))
            start = time.perf_counter()
            cell = {"blur": name, "picture": picture, "measurement": float(psnr(y.clamp(-1, 1), x))}
            reach = REACH if kind == "kernel" else 0
            try:
                if kind == "kernel":
                    found = estimate_kernel(y, prior, SIGMA)
                    cell |= {"values": [found.spread], "error": [found.error]}
                else:
                    found = estimate_blur(kind, y, prior, SIGMA)
                    cell |= {"values": found.values, "error": found.error}
                cell["places"] = len(found.path)
                cell["seconds"] = round(time.perf_counter() - start, 1)
                cell["kernel_error"] = kernel_error(found.problem.operator, operator)
                cell["estimated"] = restored(found.problem, y, x, reach)
            except ValueError as error:
                cell["refused"] = str(error)
                cell["seconds"] = round(time.perf_counter() - start, 1)
            cell["known"] = restored(problem, y, x, reach)
            rounds = richardson_lucy(y, operator.taps.shape[-1])
            cell["richardson_lucy"] = max(aligned_psnr(one, x, reach) for one in rounds)
            cells.append(cell)
            print(cell, flush=True)
            write_json(cells, a.out / "blind.json")
    write(cells, a.out, a.pictures, a.side)


def write(cells: list[dict], out: Path, pictures: int, side: int) -> None:
    rows, order = [], list(CASES)
    for cell in sorted(cells, key=lambda cell: (order.index(cell["blur"]), cell["picture"])):
        found = "values" in cell
        rows.append([
            cell["blur"],
            ", ".join(f"{v:.3g} ± {e:.1g}" for v, e in zip(cell["values"], cell["error"],
                                                          strict=True)) if found else "refused",
            f"{100 * cell['kernel_error']:.0f} %" if found else "",
            f"{cell['measurement']:.1f}",
            f"{cell['richardson_lucy']:.1f}",
            f"{cell['estimated']:.1f}" if found else "",
            f"{cell['known']:.1f}",
            f"{cell['seconds']:.0f}",
        ])  # fmt: skip
    head = ["blur", "estimate ± stated error", "error of the kernel", "PSNR of y",
            "blind Richardson-Lucy", "estimated kernel", "known kernel", "seconds"]  # fmt: skip
    write_page(
        out / "blind.md",
        [
            "Blurs estimated by `estimate_blur` (`--gaussian auto`, `--disk auto`, "
            "`--motion auto`: angle and length) and "
            "`estimate_kernel` (`--kernel auto`: the spread of a kernel of any shape) from "
            f"crops of {side}×{side} of photographs of scikit-image, "
            f"{pictures} for each blur, noise of {SIGMA} on [-1, 1], prior natural. The kind of "
            "the blur and the noise level are known. Error of the kernel: Euclidean norm of the "
            "difference over that of the kernel. Where the shape is free, kernel and picture are "
            f"compared at the best whole shift of up to {REACH} pixels. Shakes are random walks. "
            f"PSNR in dB, of the mean of {DRAWS} draws by warm-start in 6 steps. "
            "Richardson-Lucy (Fish et al. 1995) knows the side of the "
            "kernel and starts from a flat one; the best of 10 rounds is taken, by the truth. "
            "Stated errors do not know how a photograph differs from the law of its prior, for "
            "Gaussians, disks and motions a power law of the spectrum, and estimates can be "
            "further off than they say. Of a kernel of any shape it is the Monte-Carlo error, and "
            "at least the distance to the spread at which EM ends where that is not the answer. "
            "Seconds: of one core of a machine that did other work as well.",
            "",
            "`python benchmarks/blind.py`",
            "",
            *table(head, rows),
        ],
    )


if __name__ == "__main__":
    main()
