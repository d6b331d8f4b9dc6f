"""Right and wrong inputs of benchmarks/residual.py: what was measured and what is stated."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from problems import (
    JPEG,
    MRI,
    Blur,
    Clipping,
    CompressedSensing,
    Decimation,
    Demosaicing,
    Denoising,
    DiskBlur,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Inpainting,
    InverseProblem,
    LaplaceNoise,
    MotionBlur,
    Noise,
    Operator,
    PhaseRetrieval,
    PoissonGaussianNoise,
    PoissonNoise,
    Quantisation,
    SaltAndPepperNoise,
    SuperResolution,
    Tomography,
    UniformNoise,
    angles_between,
    birdcage_maps,
    box_mask,
    cartesian_mask,
    random_mask,
)

__all__ = ["SIDE", "Case", "more_cases", "right_cases", "wrong_cases"]

SIDE = 64
SIZE = (SIDE, SIDE)
SIGMAS = (0.01, 0.05, 0.2)
ESTIMATORS = ("hqs", "pnp-admm")

Measure = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Case:
    """One restoration.

    Args:
        group: "right", "later" (right, and run after the limits were set), "failing" (right input,
            a solver that fails) or "wrong".
        kind: Problem of a right case, fault of a wrong one.
        solver: Name of the solver.
        picture: Number of the picture.
        stated: Problem that the solver is given.
        measure: Measures the picture (1, 3, SIDE, SIDE), with the given random numbers.
        expect: Words of which the warning must hold one; () where none is expected.
        steps: Steps of the solver; None for its default.
        range_known: Whether the range of the values is known to be right.
    """

    group: str
    kind: str
    solver: str
    picture: int
    stated: InverseProblem
    measure: Measure
    expect: tuple[str, ...] = ()
    steps: int | None = None
    range_known: bool = False

    @property
    def key(self) -> str:
        """Name of the case in the results."""
        return "/".join((self.group, self.kind, self.solver, str(self.picture)))


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _columns() -> Tensor:
    return cartesian_mask(*SIZE, 4.0, generator=_generator(1))


def _operators() -> dict[str, Operator]:
    """The named problems of the command line, some in two forms."""
    return {
        "denoise": Denoising(),
        "inpaint 70 %": Inpainting(random_mask(*SIZE, 0.7, _generator(2))),
        "inpaint box": Inpainting(box_mask(*SIZE, 20, 18, 24, 24)),
        "deblur gaussian": GaussianBlur(1.6, "reflect"),
        "deblur motion": MotionBlur(15, 30.0, "reflect"),
        "super-resolve ×4": SuperResolution(4),
        "colourise": Grayscale(),
        "demosaic": Demosaicing("RGGB"),
        "compressed-sensing": CompressedSensing(0.25, SIZE),
        "mri": MRI(_columns()),
        "mri 4 coils": MRI(_columns(), birdcage_maps(4, *SIZE)),
        "tomography": Tomography(angles_between(60), SIZE),
        "phase-retrieval": PhaseRetrieval(2.0, shape=SIZE),
        "hdr": Clipping(2.0),
        "jpeg": JPEG(10),
        "quantise": Quantisation(8),
        "gamma-blur": Gamma(1 / 2.2) @ GaussianBlur(1.6, "reflect") @ Gamma(2.2),
    }


def _rightly(problem: InverseProblem) -> Measure:
    def measure(x: Tensor, g: torch.Generator) -> Tensor:
        # as `scoresde restore --simulate` does: the rounding is all the noise that there is
        return problem.operator.apply(x) if problem.operator.quantises else problem.measure(x, g)

    return measure


def _noises() -> dict[str, Noise]:
    return {
        "photons 100": PoissonGaussianNoise(100.0, 0.02),
        "Poisson 30": PoissonNoise(30.0),
        "Laplace": LaplaceNoise(0.05),
        "uniform": UniformNoise(0.2),
        "salt and pepper": SaltAndPepperNoise(0.1, 0.05),
    }


def _is_slow(name: str, operator: Operator, sigma: float, solver: str) -> bool:
    """Leave out what takes minutes, and strong noise with most solvers, which is easy."""
    if name == "tomography" and solver in ("diffpir", "hqs"):
        return True  # a proximal step is hundreds of iterations
    if operator.quantises or sigma == 0.05:
        return False
    if sigma == 0.01:
        return solver == "dps" or name in ("mri 4 coils", "tomography")
    return solver != "warm-start"


def right_cases(solvers: tuple[str, ...]) -> Iterator[Case]:
    """Every named problem with every solver and noise, each on another picture.

    Args:
        solvers: Names; those that cannot do a problem are left out later.

    Yields:
        The cases.
    """
    picture = 0
    for name, operator in _operators().items():
        for sigma in (0.1,) if operator.quantises else SIGMAS:
            problem = InverseProblem(operator, GaussianNoise(sigma))
            for solver in solvers:
                picture += 1
                if _is_slow(name, operator, sigma, solver):
                    continue
                kind = f"{name} {sigma:g}"
                yield Case("right", kind, solver, picture, problem, _rightly(problem))
    for name, noise in _noises().items():
        for where, operator in (("denoise", Denoising()), ("motion", MotionBlur(15, 30.0))):
            problem = InverseProblem(operator, noise)
            for solver in ("warm-start", "mmps"):
                picture += 1
                yield Case("right", f"{where}, {name}", solver, picture, problem, _rightly(problem))


def more_cases(group: str, picture: int) -> Iterator[Case]:
    """Right inputs at another noise, and more of those that round.

    Args:
        group: Group of the cases.
        picture: Number of the picture before the first.

    Yields:
        The cases.
    """
    for name, operator in _operators().items():
        sigma, repeats = (0.1, 3) if operator.quantises else (0.02, 1)
        problem = InverseProblem(operator, GaussianNoise(sigma))
        for solver in ("warm-start", "mmps", "diffpir", "hqs"):
            if solver != "mmps" and name in ("mri 4 coils", "tomography"):
                continue
            for _ in range(repeats):
                picture += 1
                kind = f"{name} {sigma:g}"
                yield Case(group, kind, solver, picture, problem, _rightly(problem))


@dataclass(frozen=True)
class Fault:
    """A wrong input: what was measured how, what is stated, and what the warning must name."""

    kind: str
    stated: Operator
    truth: Operator
    expect: tuple[str, ...]
    sigma: float = 0.02
    stated_sigma: float | None = None
    change: Callable[[Tensor], Tensor] = torch.clone
    before: Callable[[Tensor], Tensor] = torch.clone


def _halved(x: Tensor) -> Tensor:
    """A picture on [0, 1]."""
    return (x + 1) / 2


def _bytes(x: Tensor) -> Tensor:
    return 127.5 * (x + 1)


def _counts(x: Tensor) -> Tensor:
    """Detector counts divided by 65535, from -0.5 to 26."""
    return 26.5 * _halved(x) ** 4 - 0.5


def _filled(mask: Tensor, value: float) -> Callable[[Tensor], Tensor]:
    return lambda y: torch.where(mask, y, value)


def _sigma_faults(operators: dict[str, Operator]) -> Iterator[Fault]:
    for name in (
        "denoise", "inpaint 70 %", "inpaint box", "deblur gaussian", "deblur motion",
        "super-resolve ×4", "colourise", "demosaic", "compressed-sensing", "mri", "tomography",
        "gamma-blur", "hdr",
    ):  # fmt: skip
        A = operators[name]
        yield Fault(f"sigma 3 times too small: {name}", A, A, ("sigma",), 0.06, 0.02)
        yield Fault(f"sigma 3 times too large: {name}", A, A, ("sigma",), 0.05, 0.15)


def _range_faults(operators: dict[str, Operator]) -> Iterator[Fault]:
    words = ("range", "units")
    for name in (
        "denoise", "inpaint box", "deblur gaussian", "super-resolve ×4", "colourise", "demosaic",
        "mri", "tomography", "compressed-sensing",
    ):  # fmt: skip
        A = operators[name]
        yield Fault(f"[0, 1] for [-1, 1]: {name}", A, A, words, 0.02, before=_halved)
    for name in ("denoise", "inpaint box", "deblur motion", "super-resolve ×4", "hdr"):
        A = operators[name]
        yield Fault(f"0..255 for [-1, 1]: {name}", A, A, words, 0.02, change=_bytes)
    for name in ("denoise", "deblur gaussian"):
        A = operators[name]
        yield Fault(f"counts to 26 for [-1, 1]: {name}", A, A, words, 0.02, before=_counts)
    tomography, mri = operators["tomography"], operators["mri"]
    pixels = Tomography(angles_between(60), SIZE, 1.0)
    yield Fault("sinogram of [0, 1] in pixels", tomography, pixels, words, 0.02, before=_halved)
    yield Fault("sinogram of [-1, 1] in pixels", tomography, pixels, words, 0.02)
    for scale in (1e-5, 64.0):
        yield Fault(f"k-space times {scale:g}", mri, mri, words, change=partial(torch.mul, scale))


def _kernel_faults(operators: dict[str, Operator]) -> Iterator[Fault]:
    words = ("kernel",)
    motion, soft = operators["deblur motion"], operators["deblur gaussian"]
    yield Fault(
        "motion kernel turned by 90 degrees", MotionBlur(15, 120.0, "reflect"), motion, words
    )
    yield Fault(
        "motion kernel turned by 30 degrees", MotionBlur(15, 60.0, "reflect"), motion, words
    )
    yield Fault("motion kernel 9 for 15", MotionBlur(9, 30.0, "reflect"), motion, words)
    yield Fault("motion kernel 21 for 15", MotionBlur(21, 30.0, "reflect"), motion, words)
    yield Fault("Gaussian kernel 3 for 1.6", GaussianBlur(3.0, "reflect"), soft, words)
    yield Fault("Gaussian kernel 2 for 1.6", GaussianBlur(2.0, "reflect"), soft, words)
    yield Fault("Gaussian kernel 0.8 for 1.6", GaussianBlur(0.8, "reflect"), soft, words)
    yield Fault("Gaussian kernel 1.6 for disk 4", soft, DiskBlur(4.0, "reflect"), words)
    yield Fault("Gaussian kernel 1.6 for no blur", soft, Denoising(), words)
    yield Fault("no blur for a Gaussian kernel 1.6", Denoising(), soft, ())
    kernel = torch.rand(9, 9, generator=_generator(3)) ** 4
    kernel = kernel / kernel.sum()
    yield Fault(
        "kernel mirrored", Blur(kernel.flip(0, 1), "reflect"), Blur(kernel, "reflect"), words
    )
    moved = torch.zeros(15, 15)
    moved[5:14, 5:14] = kernel
    yield Fault("kernel shifted by 2", Blur(moved, "reflect"), Blur(kernel, "reflect"), words)
    yield Fault("kernel sums to 1.3", Blur(1.3 * kernel, "reflect"), Blur(kernel, "reflect"), words)
    yield Fault("kernel sums to 255", Blur(255 * kernel, "reflect"), Blur(kernel, "reflect"), words)
    yield Fault("circular for reflecting edges", MotionBlur(15, 30.0, "circular"), motion, words)
    yield Fault("blur of light as blur of grey levels", soft, operators["gamma-blur"], words)


def _mask_faults(operators: dict[str, Operator]) -> Iterator[Fault]:
    words = ("mask",)
    for name in ("inpaint 70 %", "inpaint box"):
        A = operators[name]
        mask = A.mask
        inverted = Inpainting(~mask)
        for value, colour in ((0.0, "grey"), (1.0, "white"), (-1.0, "black")):
            fill = _filled(mask, value)
            yield Fault(f"mask inverted, {colour} holes: {name}", inverted, A, words, change=fill)
    box = operators["inpaint box"]
    moved = Inpainting(box.mask.roll(6, -1))
    thin = Inpainting(box_mask(*SIZE, 23, 21, 18, 18))
    for value, colour in ((0.0, "grey"), (1.0, "white")):
        fill = _filled(box.mask, value)
        yield Fault(f"mask off by 6 pixels, {colour} hole", moved, box, words, change=fill)
        yield Fault(f"mask 3 pixels too small, {colour} hole", thin, box, words, change=fill)
    yield Fault(
        "k-space mask of other columns",
        MRI(cartesian_mask(*SIZE, 4.0, generator=_generator(9))),
        operators["mri"],
        ("mask",),
    )
    yield Fault(
        "k-space mask for the zero frequency in the corner",
        MRI(torch.fft.ifftshift(_columns())),
        operators["mri"],
        ("mask",),
    )


def _other_faults(operators: dict[str, Operator]) -> Iterator[Fault]:
    x4, tomography = operators["super-resolve ×4"], operators["tomography"]
    yield Fault("scale 2 for 4", SuperResolution(2), x4, ())
    yield Fault("average for bicubic", SuperResolution(4, "average"), x4, ())
    yield Fault("every 4th pixel for bicubic", Decimation(torch.ones(1, 1), 4), x4, ())
    yield Fault("quality 10 for a file of 90", JPEG(10), JPEG(90), ("quality",), 0.1)
    yield Fault("quality 10 for a file of 50", JPEG(10), JPEG(50), ("quality",), 0.1)
    yield Fault("quality 30 for a file of 75", JPEG(30), JPEG(75), ("quality",), 0.1)
    yield Fault("quality 90 for a file of 10", JPEG(90), JPEG(10), ("quality",), 0.1)
    yield Fault("4 levels for 8", Quantisation(4), Quantisation(8), ("levels",), 0.1)
    yield Fault("8 levels for 4", Quantisation(8), Quantisation(4), ("levels",), 0.1)
    yield Fault("gain 4 for 2", Clipping(4.0), Clipping(2.0), ("gain",))
    yield Fault("gain 2 for 4", Clipping(2.0), Clipping(4.0), ("gain",))
    yield Fault("angles over 360 degrees as 180", tomography,
                Tomography(angles_between(60, 0.0, 360.0), SIZE), ("angles",))  # fmt: skip
    yield Fault("angles in the other sense", tomography,
                Tomography(tuple(-a for a in angles_between(60)), SIZE), ("angles",))  # fmt: skip
    yield Fault("angles from 90 degrees on", tomography,
                Tomography(angles_between(60, 90.0, 270.0), SIZE), ("angles",))  # fmt: skip
    yield Fault("pattern BGGR for RGGB", Demosaicing("BGGR"), operators["demosaic"], ("pattern",))
    yield Fault("pattern GRBG for RGGB", Demosaicing("GRBG"), operators["demosaic"], ("pattern",))
    yield Fault("mean for luma", Grayscale(), Grayscale((0.299, 0.587, 0.114)), ())
    yield Fault("magnitudes for intensities", operators["phase-retrieval"],
                PhaseRetrieval(2.0, True, SIZE), ("squared", "units", "range"))  # fmt: skip
    other = CompressedSensing(0.25, SIZE, seed=1)
    yield Fault("another seed of the transform", operators["compressed-sensing"], other, ("seed",))


def _faults() -> Iterator[Fault]:
    operators = _operators()
    for part in (_sigma_faults, _range_faults, _kernel_faults, _mask_faults, _other_faults):
        yield from part(operators)


def wrong_cases(pictures: int) -> Iterator[Case]:
    """Every fault on a few pictures, with the default solver; and solvers that fail.

    Args:
        pictures: Number of pictures for each.

    Yields:
        The cases.
    """
    for number, fault in enumerate(_faults()):
        for index in range(pictures):
            noise = GaussianNoise(fault.sigma)

            def measure(
                x: Tensor, g: torch.Generator, fault: Fault = fault, noise: Noise = noise
            ) -> Tensor:
                clean = fault.truth.apply(fault.before(x))
                y = clean if fault.truth.quantises else noise.sample(clean, g)
                return fault.stated.mask_unobserved(fault.change(fault.truth.mask_unobserved(y)))

            stated = InverseProblem(fault.stated, GaussianNoise(fault.stated_sigma or fault.sigma))
            yield Case(
                "wrong", fault.kind, "warm-start", 1000 + 10 * number + index, stated, measure,
                fault.expect,
            )  # fmt: skip
    operators = _operators()
    failing = [
        ("hdr", "warm-start", 0.05, 2),
        ("quantise", "warm-start", 0.1, 2),
        ("jpeg", "warm-start", 0.1, 2),
        ("inpaint box", "second-order", 0.002, None),
        ("inpaint 70 %", "warm-start", 0.02, None),
    ]
    for name, solver, sigma, steps in failing:
        problem = InverseProblem(operators[name], GaussianNoise(sigma))
        for index in range(2 * pictures):
            kind = f"{name}, sigma {sigma:g}" + (f", {steps} steps" if steps else "")
            yield Case("failing", kind, solver, 3000 + index, problem, _rightly(problem), (), steps)
