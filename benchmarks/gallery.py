"""One restoration for every kind of measurement, on one sheet: docs/gallery.png.

python benchmarks/gallery.py
"""

import argparse
import time
from pathlib import Path

import torch
from PIL import Image

from problems import (
    JPEG,
    MRI,
    Clipping,
    CompressedSensing,
    Demosaicing,
    Denoising,
    DiskBlur,
    Gamma,
    GaussianNoise,
    Grayscale,
    Inpainting,
    InverseProblem,
    MotionBlur,
    Noise,
    Operator,
    PhaseRetrieval,
    PoissonGaussianNoise,
    Quantisation,
    SuperResolution,
    Tomography,
    angles_between,
    birdcage_maps,
    cartesian_mask,
    random_mask,
)
from scoresde.data.figures import Panel, sheet
from scoresde.pipelines.demo import photograph
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.named_problems import PROBLEMS
from scoresde.pipelines.plan import restore_tensor
from scoresde.pipelines.restore import panels, scores
from scoresde.pipelines.settings import DEFAULT_SOLVER, RestoreOptions

SIDE = 128
WIDTH = 1000
SIZE = (SIDE, SIDE)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


CAT, CUP, PORTRAIT = ("chelsea", (60, 130)), ("coffee", (60, 230)), ("astronaut", (20, 150))
LIGHT_BLUR = Gamma(1 / 2.2) @ DiskBlur(2.5, "reflect") @ Gamma(2.2)
COILS = MRI(cartesian_mask(*SIZE, 4.0, generator=seeded()), birdcage_maps(4, *SIZE))

# title, picture and corner of its crop, operator, noise, named problem that has a solver of its own
Scene = tuple[str, tuple[str, tuple[int, int]], Operator, Noise, str | None]
SCENES: list[Scene] = [
    ("denoising, σ = 0.4", CAT, Denoising(), GaussianNoise(0.4), None),
    ("photon counts, 20 at white", CUP, Denoising(), PoissonGaussianNoise(20.0, 0.05), None),
    (
        "inpainting, 80 % missing",
        PORTRAIT,
        Inpainting(random_mask(*SIZE, 0.8, seeded())),
        GaussianNoise(0.05),
        None,
    ),
    ("motion blur, 15 pixels", CAT, MotionBlur(15, 30.0, "reflect"), GaussianNoise(0.05), None),
    ("out of focus, radius 3.5", CUP, DiskBlur(3.5, "reflect"), GaussianNoise(0.05), None),
    (
        "super-resolution ×4, bicubic",
        PORTRAIT,
        SuperResolution(4, shape=SIZE),
        GaussianNoise(0.05),
        None,
    ),
    ("colourisation", CUP, Grayscale(), GaussianNoise(0.05), None),
    ("Bayer mosaic", CAT, Demosaicing(), GaussianNoise(0.05), None),
    (
        "compressed sensing, 25 %",
        PORTRAIT,
        CompressedSensing(0.25, SIZE),
        GaussianNoise(0.05),
        None,
    ),
    ("MRI, 4 coils, ×4", CAT, COILS, GaussianNoise(0.05), None),
    ("tomography, 45 angles", CUP, Tomography(angles_between(45), SIZE), GaussianNoise(0.02), None),
    (
        "phase retrieval, oversampling 2",
        PORTRAIT,
        PhaseRetrieval(2.0, shape=SIZE),
        GaussianNoise(0.05),
        "phase-retrieval",
    ),
    ("exposed twice too long, clipped", CUP, Clipping(2.0), GaussianNoise(0.05), "hdr"),
    ("JPEG, quality 10", CAT, JPEG(10), GaussianNoise(0.15), None),
    ("6 levels a colour", PORTRAIT, Quantisation(6), GaussianNoise(0.1), None),
    ("blur of light, gamma 2.2", CUP, LIGHT_BLUR, GaussianNoise(0.02), None),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("docs/gallery.png"))
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--only", help="only rows whose title contains this text")
    arguments = parser.parse_args()
    prior = open_prior("natural", choose_device("auto"), "auto")
    rows: list[list[Panel]] = []
    for index, (title, (name, corner), operator, noise, named) in enumerate(SCENES):
        if arguments.only and arguments.only not in title:
            continue
        truth = photograph(name, corner)[..., :SIDE, :SIDE].contiguous()
        problem = InverseProblem(operator, noise)
        y = operator.apply(truth) if operator.quantises else problem.measure(truth, seeded(index))
        start = time.perf_counter()
        entry = PROBLEMS[named] if named else None
        solver = (entry.solver if entry else None) or DEFAULT_SOLVER
        starts = entry.starts if entry else 1
        options = RestoreOptions(solver=solver, samples=arguments.samples, starts=starts)
        posterior = restore_tensor(prior, problem, y, options)
        report = scores(posterior, y, truth)
        mean, draw, seconds = (
            report["mean"]["psnr"],
            report["draw"]["psnr"],
            time.perf_counter() - start,
        )
        print(
            f"{title:34s} mean {mean:.2f} dB, one draw {draw:.2f} dB, {seconds:.0f} s", flush=True
        )
        row = panels(solver, posterior, operator.preview(y), truth, report)
        rows.append([Panel(row[0].image, title), *row[1:]])
    sheet(rows, arguments.out)
    with Image.open(arguments.out) as full:  # small enough for a page
        small = full.convert("RGB").resize(
            (WIDTH, round(full.height * WIDTH / full.width)), Image.Resampling.LANCZOS
        )
    small.quantize(256).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
