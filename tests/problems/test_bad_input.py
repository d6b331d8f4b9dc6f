"""Bad input is refused with a ValueError that names what is wrong."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import (
    JPEG,
    MRI,
    Blur,
    Clipping,
    CompressedSensing,
    CorrelatedNoise,
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
    LinearMatrix,
    MotionBlur,
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

NAN, INF = float("nan"), float("inf")


def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(1, *shape, dtype=dtype)


def maps(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.complex64)


K = torch.ones(5, 3)
AVERAGE = GaussianNoise(0.1)

BAD_INPUT: dict[str, tuple[Callable[[], object], str]] = {
    # images and measurements of any operator
    "complex image": (
        lambda: Denoising().apply(zeros(1, 4, 4, dtype=torch.complex64)),
        "complex64; give.*two channels",
    ),
    "complex image to a nonlinear one": (
        lambda: Clipping().apply(zeros(1, 4, 4, dtype=torch.complex64)),
        "real floating-point.*complex64",
    ),
    "complex measurement": (
        lambda: Denoising().adjoint(zeros(1, 4, 4, dtype=torch.complex128)),
        "real floating-point.*complex128",
    ),
    "complex right-hand side": (
        lambda: Denoising().solve(zeros(1, 4, 4, dtype=torch.complex64), 1.0, 1.0),
        "real floating-point",
    ),
    "image of bytes": (
        lambda: JPEG(50).apply(zeros(3, 4, 4, dtype=torch.uint8)),
        r"real floating-point.*uint8; convert it",
    ),
    "image of booleans": (
        lambda: Inpainting(torch.ones(4, 4)).apply(zeros(1, 4, 4, dtype=torch.bool)),
        "real floating-point.*bool",
    ),
    "one number": (lambda: Denoising().apply(torch.tensor(1.0)), r"a batch .* is needed"),
    "no batch, one axis": (
        lambda: Denoising().apply(torch.ones(4)),
        r"a batch .* is needed.*\(4,\)",
    ),
    **{
        f"no batch, {type(op).__name__}": (
            lambda op=op: op.apply(torch.zeros(3, 8, 8)),
            r"\(C, H, W\)|channels|\(8, 8\)",
        )  # type: ignore[misc]
        for op in (
            Blur(K),
            GaussianBlur(0.7),
            SuperResolution(2),
            Inpainting(torch.ones(8, 8)),
            Decimation(K, 2),
            Grayscale(),
            Demosaicing(),
            PhaseRetrieval(),
            JPEG(50),
            MRI(torch.ones(8, 8)),
            Tomography((0.0,), (8, 8)),
            CompressedSensing(0.5, (8, 8)),
        )
    },
    **{
        f"an axis only, {type(op).__name__}": (
            lambda op=op: op.apply(torch.zeros(2, 8)),
            r"\(C, H, W\)|channels|\(8,\)",
        )  # type: ignore[misc]
        for op in (
            Blur(K),
            SuperResolution(2),
            Inpainting(torch.ones(8, 8)),
            Decimation(K, 2),
            Grayscale(),
            PhaseRetrieval(),
            JPEG(50),
        )
    },
    "nonlinear adjoint": (
        lambda: JPEG(50).adjoint(zeros(3, 8, 8)),
        "JPEG has no adjoint; operators that have it: .*Blur",
    ),
    "nonlinear solve": (
        lambda: (Clipping() @ Denoising()).solve(zeros(3, 8, 8), 1.0, 1.0),
        "NonlinearComposition has no solve",
    ),
    # noise
    "noise negative": (lambda: GaussianNoise(-0.1), "-0.1"),
    "noise NaN": (lambda: GaussianNoise(NAN), "nan"),
    "noise infinite": (lambda: GaussianNoise(INF), "inf"),
    "a level negative": (
        lambda: GaussianNoise(torch.tensor([0.1, -0.1])),
        "levels must be finite numbers >= 0",
    ),
    "a level NaN": (
        lambda: GaussianNoise(torch.tensor([0.1, NAN])),
        "levels must be finite numbers >= 0",
    ),
    "a level complex": (
        lambda: GaussianNoise(torch.tensor([0.1j])),
        "levels must be finite numbers >= 0",
    ),
    "levels of other shape": (
        lambda: GaussianNoise(torch.ones(2, 4, 4)).sample(zeros(1, 4, 4)),
        r"\(2, 4, 4\).*\(1, 4, 4\)",
    ),
    "levels with a batch": (
        lambda: GaussianNoise(torch.ones(1, 1, 4, 4)).sample(zeros(1, 4, 4)),
        r"\(1, 1, 4, 4\).*\(1, 4, 4\)",
    ),
    "likelihood without noise": (
        lambda: GaussianNoise(0.0).log_prob(zeros(2), zeros(2)),
        "above 0",
    ),
    "likelihood with a level 0": (
        lambda: GaussianNoise(torch.tensor([1.0, 0.0])).log_prob(zeros(2), zeros(2)),
        "above 0",
    ),
    "score without noise": (lambda: GaussianNoise(0.0).score(zeros(2), zeros(2)), "above 0"),
    "laplace 0": (lambda: LaplaceNoise(0.0), "scale of Laplace noise must be positive, got 0.0"),
    "laplace negative": (lambda: LaplaceNoise(-1.0), "must be positive, got -1.0"),
    "laplace NaN": (lambda: LaplaceNoise(NAN), "must be positive, got nan"),
    "uniform 0": (lambda: UniformNoise(0.0), "step of a quantisation must be positive, got 0.0"),
    "uniform infinite": (lambda: UniformNoise(INF), "step of a quantisation .*got inf"),
    "poisson 0": (lambda: PoissonNoise(0.0), "photons at white must be positive, got 0.0"),
    "poisson NaN": (lambda: PoissonNoise(NAN), "must be positive, got nan"),
    "camera without photons": (
        lambda: PoissonGaussianNoise(-3.0, 0.1),
        "photons at white must be positive, got -3.0",
    ),
    "camera without read noise": (
        lambda: PoissonGaussianNoise(3.0, 0.0),
        "read noise must be positive, got 0.0",
    ),
    "amount above 1": (lambda: SaltAndPepperNoise(1.1), "1.1"),
    "amount negative": (lambda: SaltAndPepperNoise(-0.1), "-0.1"),
    "amount NaN": (lambda: SaltAndPepperNoise(NAN), "nan"),
    "salt with negative noise": (lambda: SaltAndPepperNoise(0.1, -1.0), "-1.0"),
    "likelihood of salt alone": (
        lambda: SaltAndPepperNoise(0.1).log_prob(zeros(2), zeros(2)),
        "above 0",
    ),
    "root without svd": (
        lambda: CorrelatedNoise(Blur(K, "reflect")),
        "needs an operator with an SVD, and this Blur has none",
    ),
    "root not linear": (
        lambda: CorrelatedNoise(JPEG(50)),
        "needs an operator with an SVD, and this JPEG has none",
    ),  # type: ignore[arg-type]
    "root of other shape": (
        lambda: CorrelatedNoise(LinearMatrix(torch.eye(3))).sample(zeros(4)),
        r"3 numbers.*\(4,\)",
    ),
    "too few generators": (
        lambda: AVERAGE.sample(torch.zeros(3, 2), [torch.Generator()] * 2),
        "2 generators for 3 samples",
    ),
    "too many generators": (
        lambda: PoissonNoise(3.0).sample(torch.zeros(1, 2), [torch.Generator()] * 2),
        "2 generators for 1 samples",
    ),
    # problems
    "measurement of other size": (
        lambda: InverseProblem(SuperResolution(2), AVERAGE).log_likelihood(
            zeros(1, 4, 4), zeros(1, 16, 16)
        ),
        r"\(1, 8, 8\), y has \(1, 4, 4\)",
    ),
    "measurement of other channels": (
        lambda: InverseProblem(Denoising(), AVERAGE).residual(zeros(1, 4, 4), zeros(3, 4, 4)),
        "y has",
    ),
    "correlated noise in holes": (
        lambda: InverseProblem(
            Inpainting(torch.eye(4)), CorrelatedNoise(Denoising())
        ).log_likelihood(zeros(1, 4, 4), zeros(1, 4, 4)),
        "CorrelatedNoise has a density of whole measurements only",
    ),
    # masks
    "mask not binary": (lambda: Inpainting(torch.tensor([[0.0, 0.5]])), "binary"),
    "mask NaN": (lambda: Inpainting(torch.tensor([[1.0, NAN]])), "binary"),
    "mask all missing": (lambda: Inpainting(torch.zeros(3, 3)), "no pixel"),
    "mask with a batch": (lambda: Inpainting(torch.ones(1, 1, 3, 3)), r"\(1, 1, 3, 3\)"),
    "mask of other size": (
        lambda: Inpainting(torch.ones(3, 4)).apply(zeros(1, 4, 4)),
        r"\(3, 4\).*\(4, 4\)",
    ),
    "mask of other size, adjoint": (
        lambda: Inpainting(torch.ones(3, 4)).adjoint(zeros(1, 4, 4)),
        r"\(3, 4\).*\(4, 4\)",
    ),
    "mask of other channels": (
        lambda: Inpainting(torch.ones(3, 4, 4)).apply(zeros(1, 4, 4)),
        "3.*1",
    ),
    "box outside": (lambda: box_mask(4, 4, 3, 0, 2, 2), "inside"),
    "box left of the image": (lambda: box_mask(4, 4, 0, -1, 2, 2), "inside"),
    "box empty": (lambda: box_mask(4, 4, 0, 0, 0, 2), "0"),
    "missing fraction 1": (lambda: random_mask(4, 4, 1.0), "1.0"),
    "missing fraction negative": (lambda: random_mask(4, 4, -0.1), "-0.1"),
    "missing fraction NaN": (lambda: random_mask(4, 4, NAN), "nan"),
    # blur
    "kernel of no axis": (lambda: Blur(torch.tensor(3.0)), r"\(h, w\)"),
    "kernel of a signal": (
        lambda: Blur(torch.ones(3)).apply(torch.zeros(1, 3, 8, 8)),
        r"a signal \(C, L\) is needed",
    ),
    "kernel of a volume": (lambda: Blur(torch.ones(3, 3), dimensions=3), r"\(d, h, w\)"),
    "kernel of four axes": (lambda: Blur(torch.ones(1, 1, 3, 3)), r"\(1, 1, 3, 3\)"),
    "kernel empty": (lambda: Blur(torch.ones(0, 3)), r"\(0, 3\)"),
    "kernel zero": (lambda: Blur(torch.zeros(3, 3)), "zero"),
    "kernel NaN": (lambda: Blur(torch.tensor([[1.0, NAN]])), "finite"),
    "kernel complex": (lambda: Blur(torch.ones(3, 3) * 1j), "real"),
    "kernels for other channels": (
        lambda: Blur(torch.ones(2, 3, 3)).apply(zeros(3, 8, 8)),
        "2 kernels for 3 channels",
    ),
    "kernel too large, valid": (lambda: Blur(K, "valid").apply(zeros(1, 4, 9)), "3x5.*9x4"),
    **{
        f"kernel too large, {b}": (lambda b=b: Blur(K, b).apply(zeros(1, 4, 9)), f"3x5.*9x4.*{b}")
        for b in ("circular", "reflect", "replicate", "zero")
    },
    "kernel too large for the adjoint": (lambda: Blur(K).adjoint(zeros(1, 4, 9)), "3x5.*9x4"),
    "kernel too large for the solve": (lambda: Blur(K).solve(zeros(1, 4, 9), 1.0, 1.0), "3x5.*9x4"),
    "gaussian too large": (lambda: GaussianBlur(2.0).apply(zeros(1, 8, 32)), "17x17.*32x8"),
    "motion too large": (lambda: MotionBlur(9).apply(zeros(1, 8, 32)), "9x9.*32x8"),
    "disk too large": (lambda: DiskBlur(4.0).apply(zeros(1, 8, 32)), "9x9.*32x8"),
    "boundary unknown": (lambda: Blur(K, "mirror"), "'mirror'; known: circular"),
    "boundary of a gaussian": (lambda: GaussianBlur(1.0, "wrap"), "'wrap'; known: circular"),
    "gaussian of width 0": (lambda: GaussianBlur(0.0), "positive"),
    "gaussian of width NaN": (lambda: GaussianBlur(NAN), "nan"),
    "gaussian cut at 0": (
        lambda: GaussianBlur(1.0, truncate=0.0),
        "truncate must be positive, got 0.0",
    ),
    "gaussian never cut": (
        lambda: GaussianBlur(1.0, truncate=INF),
        "truncate must be positive, got inf",
    ),
    "motion of length infinite": (lambda: MotionBlur(INF), "at most 4095, got inf"),
    "motion of length NaN": (lambda: MotionBlur(NAN), "at least 1, got nan"),
    "motion too short": (lambda: MotionBlur(0.9), "at least 1, got 0.9"),
    "motion at no angle": (lambda: MotionBlur(5, NAN), "finite"),
    "disk of radius 0": (lambda: DiskBlur(0.0), "radius of a disk must be positive, got 0.0"),
    "disk of radius NaN": (lambda: DiskBlur(NAN), "nan"),
    # down-sampling
    "factor 1": (lambda: SuperResolution(1), "above 1"),
    "factor 0.5": (lambda: SuperResolution(0.5), "0.5"),
    "factor NaN": (lambda: SuperResolution(NAN), "nan"),
    "filter unknown": (
        lambda: SuperResolution(2, "sinc"),
        "'sinc'; known: bicubic, bilinear, lanczos3, average",
    ),  # type: ignore[arg-type]
    "image of other size": (
        lambda: SuperResolution(2, shape=(8, 8)).apply(zeros(1, 8, 9)),
        r"\(8, 8\).*\(8, 9\)",
    ),
    "coarse image of other size": (
        lambda: SuperResolution(2, shape=(8, 8)).adjoint(zeros(1, 4, 5)),
        r"\(8, 8\).*\(4, 5\)",
    ),
    "factor that does not divide": (
        lambda: Decimation(torch.ones(3, 3), 2).apply(zeros(1, 8, 9)),
        "2 does not divide an image of 9x8",
    ),
    "factor not whole": (
        lambda: Decimation(K, 2.5),
        r"whole number of at least 2, got 2.5; SuperResolution",
    ),  # type: ignore[arg-type]
    "factor of a decimation 1": (lambda: Decimation(K, 1), "got 1"),
    "factor of a decimation NaN": (lambda: Decimation(K, NAN), "got nan"),  # type: ignore[arg-type]
    "decimation valid": (
        lambda: Decimation(K, 2, "valid"),
        "'valid'.*known: circular, reflect, replicate, zero",
    ),
    "decimation with a large kernel": (
        lambda: Decimation(K, 2).adjoint(zeros(1, 2, 8)),
        "3x5.*16x4",
    ),
    # matrices
    "matrix of three axes": (lambda: LinearMatrix(torch.ones(1, 2, 3)), r"\(1, 2, 3\)"),
    "matrix empty": (lambda: LinearMatrix(torch.ones(0, 3)), r"\(0, 3\)"),
    "matrix of other width": (lambda: LinearMatrix(torch.ones(2, 3), (2, 2)), r"\(2, 2\).*3"),
    "matrix NaN": (lambda: LinearMatrix(torch.tensor([[1.0, NAN]])), "finite"),
    "matrix complex": (lambda: LinearMatrix(torch.eye(2) * 1j), "real"),
    "matrix for other x": (
        lambda: LinearMatrix(torch.ones(2, 4), (2, 2)).apply(zeros(4)),
        r"\(2, 2\), got \(4,\)",
    ),
    "matrix for other y": (
        lambda: LinearMatrix(torch.ones(2, 4)).adjoint(zeros(3)),
        r"2 numbers.*\(3,\)",
    ),
    # colour
    "no weights": (lambda: Grayscale(()), "not all zero"),
    "weights zero": (lambda: Grayscale((0.0, 0.0)), "not all zero"),
    "weights NaN": (lambda: Grayscale((1.0, NAN)), "finite"),
    "colourisation of other channels": (
        lambda: Grayscale().apply(zeros(4, 4, 4)),
        "3 channels, the image has 4",
    ),
    "colourisation of a grey measurement": (
        lambda: Grayscale().adjoint(zeros(3, 4, 4)),
        "one channel, got 3",
    ),
    "pattern unknown": (lambda: Demosaicing("RGBG"), "'RGBG'; did you mean '"),
    "mosaic of other channels": (
        lambda: Demosaicing().apply(zeros(1, 4, 4)),
        "3 colours, the image has 1",
    ),
    "mosaic in colour": (lambda: Demosaicing().adjoint(zeros(3, 4, 4)), "one channel, got 3"),
    # compressed sensing
    "fraction 0": (lambda: CompressedSensing(0.0, (8, 8)), r"\(0, 1\], got 0.0"),
    "fraction above 1": (lambda: CompressedSensing(1.5, (8, 8)), "got 1.5"),
    "fraction NaN": (lambda: CompressedSensing(NAN, (8, 8)), "got nan"),
    "transform unknown": (
        lambda: CompressedSensing(0.5, (8, 8), "fourier"),
        "'fourier'; known: hadamard, dct, random",
    ),  # type: ignore[arg-type]
    "hadamard of 7x7": (
        lambda: CompressedSensing(0.5, (7, 7), "hadamard"),
        "power of two, got 7x7 = 49 pixels; use 'dct' or 'random'",
    ),
    "sensing of no image": (lambda: CompressedSensing(0.5, (0, 8)), r"\(H, W\).*\(0, 8\)"),
    "sensing of three axes": (lambda: CompressedSensing(0.5, (1, 8, 8)), r"\(H, W\).*\(1, 8, 8\)"),
    "sensing of other size": (
        lambda: CompressedSensing(0.5, (8, 8)).apply(zeros(1, 8, 9)),
        r"\(8, 8\), got \(1, 8, 9\)",
    ),
    "coefficients of other number": (
        lambda: CompressedSensing(0.5, (8, 8)).adjoint(zeros(1, 31)),
        r"\(C, 32\), got \(1, 31\)",
    ),
    # MRI
    "k-space mask not binary": (lambda: MRI(torch.full((4, 4), 0.5)), "binary"),
    "k-space mask empty": (lambda: MRI(torch.zeros(4, 4)), "sample something"),
    "k-space mask of four axes": (lambda: MRI(torch.ones(1, 1, 4, 4)), r"\(1, 1, 4, 4\)"),
    "k-space mask of a volume": (
        lambda: MRI(torch.ones(1, 4, 4)).apply(zeros(1, 4, 4)),
        r"\(1, 4, 4\) \(depth, height, width\)",
    ),
    "k-space mask of other size": (
        lambda: MRI(torch.ones(4, 4)).apply(zeros(1, 4, 5)),
        r"\(4, 4\).*\(1, 4, 5\)",
    ),
    "real sensitivities": (
        lambda: MRI(torch.ones(4, 4), torch.ones(2, 4, 4)),
        "must be complex.*float32",
    ),
    "sensitivities of other size": (
        lambda: MRI(torch.ones(4, 4), maps(2, 4, 5)),
        r"\(coils, 4, 4\).*\(2, 4, 5\)",
    ),
    "sensitivities of one coil without axis": (
        lambda: MRI(torch.ones(4, 4), maps(4, 4)),
        r"\(coils, 4, 4\).*\(4, 4\)",
    ),
    "sensitivities NaN": (lambda: MRI(torch.ones(4, 4), maps(1, 4, 4) * NAN), "finite"),
    "complex image of odd channels": (
        lambda: MRI(torch.ones(4, 4), complex_image=True).apply(zeros(3, 4, 4)),
        "two channels.*3 channels",
    ),
    "k-space of odd channels": (
        lambda: MRI(torch.ones(4, 4)).adjoint(zeros(3, 4, 4)),
        "multiple of 2 channels.*got 3",
    ),
    "k-space of other coils": (
        lambda: MRI(torch.ones(4, 4), maps(3, 4, 4)).adjoint(zeros(4, 4, 4)),
        "multiple of 6 channels.*got 4",
    ),
    "acceleration below 1": (lambda: cartesian_mask(8, 8, 0.5), "at least 1.*0.5"),
    "acceleration NaN": (lambda: cartesian_mask(8, 8, NAN), "nan"),
    "centre above 1": (lambda: cartesian_mask(8, 8, 2.0, 1.5), r"\[0, 1\], got 2.0 and 1.5"),
    "no coils": (lambda: birdcage_maps(0, 4, 4), "at least 1, got 0"),
    # tomography
    "no angles": (lambda: Tomography((), (8, 8)), "at least one"),
    "angle NaN": (lambda: Tomography((0.0, NAN), (8, 8)), "finite.*nan"),
    "angles between, none": (lambda: angles_between(0), "at least 1, got 0"),
    "tomography of no image": (lambda: Tomography((0.0,), (8,)), r"\(H, W\).*\(8,\)"),
    "spacing 0": (lambda: Tomography((0.0,), (8, 8), 0.0), "spacing must be positive, got 0.0"),
    "tomography of other size": (
        lambda: Tomography((0.0,), (8, 8)).apply(zeros(1, 8, 9)),
        r"\(8, 8\), got \(1, 8, 9\)",
    ),
    "sinogram of other size": (
        lambda: Tomography((0.0,), (8, 8)).adjoint(zeros(1, 2, 12)),
        r"\(C, 1, 12\).*\(1, 2, 12\)",
    ),
    # nonlinear operators
    "oversampling below 1": (lambda: PhaseRetrieval(0.9), "at least 1, got 0.9"),
    "oversampling infinite": (lambda: PhaseRetrieval(INF), "got inf"),
    "phase of other size": (
        lambda: PhaseRetrieval(2.0, shape=(8, 8)).apply(zeros(1, 8, 9)),
        r"\(8, 8\).*\(8, 9\)",
    ),
    "magnitudes of other size": (
        lambda: PhaseRetrieval(2.0).input_shape((1, 16, 17)),
        r"does not give \(16, 17\)",
    ),
    "gain 0": (lambda: Clipping(0.0), "got 0.0"),
    "gain infinite": (lambda: Clipping(INF), "finite gain"),
    "clipping of nothing": (lambda: Clipping(1.0, 1.0, -1.0), "low < high, got 1.0, 1.0 and -1.0"),
    "exponent 0": (lambda: Gamma(0.0), "positive, got 0.0"),
    "exponent NaN": (lambda: Gamma(NAN), "positive, got nan"),
    "one level": (lambda: Quantisation(1), "at least 2 levels.*got 1"),
    "levels not whole": (lambda: Quantisation(2.5), "whole number.*2.5"),  # type: ignore[arg-type]
    "levels infinite": (lambda: Quantisation(INF), "whole number.*inf"),  # type: ignore[arg-type]
    "quality 0": (lambda: JPEG(0), "1 to 100, got 0"),
    "quality 101": (lambda: JPEG(101), "1 to 100, got 101"),
    "quality not whole": (lambda: JPEG(50.5), "whole number.*50.5"),  # type: ignore[arg-type]
    "quality NaN": (lambda: JPEG(NAN), "whole number.*nan"),  # type: ignore[arg-type]
    "jpeg of two channels": (
        lambda: JPEG(50).apply(zeros(2, 8, 8)),
        r"1 or 3 channels.*\(2, 8, 8\)",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_named(name: str) -> None:
    attempt, message = BAD_INPUT[name]
    with pytest.raises(ValueError, match=message):
        attempt()


def test_numbers_of_numpy_are_numbers() -> None:
    assert JPEG(np.int64(50)).quality == 50  # type: ignore[arg-type]
    assert CompressedSensing(np.float64(0.5), (np.int64(8), 8)).count == 32
    assert GaussianBlur(np.float32(1.0)).kernel.shape == (9, 9)  # type: ignore[arg-type]
