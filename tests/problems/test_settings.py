"""Every setting of every operator and noise, out of its range: it works, or one ValueError.

What is accepted has finite results. Nothing absurd is allocated, and no other error is raised.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

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
    CountNoise,
    Decimation,
    Demosaicing,
    Denoising,
    DiffractionBlur,
    DiskBlur,
    FanBeam,
    Gamma,
    GaussianBlur,
    GaussianNoise,
    Grayscale,
    Inpainting,
    LaplaceNoise,
    LinearMatrix,
    LinearOperator,
    LogCountNoise,
    LogPoissonNoise,
    MicroscopeBlur,
    MotionBlur,
    Noise,
    NonCartesianMRI,
    Operator,
    ParallelBeam,
    PhaseRetrieval,
    PoissonGaussianNoise,
    PoissonNoise,
    Quantisation,
    RicianNoise,
    SaltAndPepperNoise,
    SparseMatrix,
    SpeckleNoise,
    SuperResolution,
    Tomography,
    Transmission,
    UniformNoise,
    VaryingBlur,
    angles_between,
    bilinear_weights,
    birdcage_maps,
    box_mask,
    cartesian_mask,
    random_mask,
)
from problems.checks import check_number, check_sizes
from problems.noise.base import known_noises
from problems.operators.base import known_operators
from tests.conftest import F64, seeded

NAN, INF = float("nan"), float("inf")
X = torch.linspace(-0.9, 0.9, 3 * 256, dtype=F64).reshape(1, 3, 16, 16)
KERNEL = torch.ones(3, 3) / 9
MASK = torch.ones(16, 16, dtype=torch.bool)

SOUND: dict[Callable[..., Any], dict[str, Any]] = {
    Blur: {"kernel": KERNEL, "boundary": "zero", "dimensions": 2},
    Clipping: {"gain": 2.0, "low": -1.0, "high": 1.0},
    CompressedSensing: {"fraction": 0.5, "shape": (16, 16), "transform": "dct", "seed": 0},
    CorrelatedNoise: {"root": GaussianBlur(0.5, "circular", 2.0)},
    CountNoise: {"gain": 0.1, "std": 0.1},
    Decimation: {"kernel": KERNEL, "factor": 2, "boundary": "circular", "dimensions": 2},
    Demosaicing: {"pattern": "RGGB"},
    Denoising: {},
    DiffractionBlur: {
        "wavelength": 0.5,
        "aperture": 0.4,
        "pixel": 0.5,
        "defocus": 1.0,
        "aberrations": ((7, 0.1),),
        "index": 1.0,
        "size": 7,
    },
    DiskBlur: {"radius": 2.0, "boundary": "zero"},
    FanBeam: {
        "angles": (0.0, 30.0),
        "shape": (16, 16),
        "pixel": 1.0,
        "source_distance": 50.0,
        "detector_distance": 50.0,
        "detectors": 9,
        "pitch": 4.0,
        "offset": 1.0,
        "arc": True,
    },
    Gamma: {"exponent": 2.2},
    GaussianBlur: {"std": 1.0, "boundary": "reflect", "truncate": 2.0, "dimensions": 2},
    GaussianNoise: {"std": 0.1},
    Grayscale: {"weights": (0.3, 0.3, 0.4)},
    Inpainting: {"mask": MASK, "dimensions": 2},
    JPEG: {"quality": 50, "subsampling": True},
    LaplaceNoise: {"scale": 0.1},
    LinearMatrix: {"matrix": torch.eye(768, dtype=F64)[:10], "shape": (3, 16, 16)},
    LogCountNoise: {"photons": 100.0, "background": 1.0, "gain": 1.0, "std": 1.0},
    LogPoissonNoise: {"photons": 100.0, "mu": 1.0},
    MRI: {"mask": MASK, "sensitivities": None},
    MicroscopeBlur: {
        "wavelength": 0.5,
        "aperture": 0.9,
        "pixel": 0.3,
        "defocus": 1.0,
        "aberrations": ((7, 0.1),),
        "index": 1.0,
        "size": 7,
        "depth": 2.0,
        "sample_index": 1.33,
        "working_distance": 150.0,
        "design_index": None,
        "cover": 171.0,
        "cover_index": 1.5,
        "design_cover": 170.0,
        "design_cover_index": 1.5,
    },
    MotionBlur: {"length": 5, "angle": 30.0, "boundary": "circular"},
    NonCartesianMRI: {
        "trajectory": torch.linspace(-4, 4, 10).reshape(5, 2),
        "size": (16, 16),
        "sensitivities": None,
        "method": "sums",
    },
    ParallelBeam: {
        "angles": (0.0, 30.0),
        "shape": (16, 16),
        "pixel": 1.0,
        "detectors": 9,
        "pitch": 2.0,
        "offset": 1.0,
    },
    PhaseRetrieval: {"oversampling": 2.0, "shape": (16, 16)},
    PoissonGaussianNoise: {"peak": 10.0, "std": 0.1},
    PoissonNoise: {"peak": 10.0},
    Quantisation: {"levels": 8},
    RicianNoise: {"std": 0.1, "black": -1.0},
    SaltAndPepperNoise: {"amount": 0.1, "std": 0.1},
    SparseMatrix: {
        "rows": torch.arange(10),
        "columns": torch.arange(10),
        "values": torch.ones(10),
        "size": (10, 768),
        "shape": (3, 16, 16),
    },
    SpeckleNoise: {"looks": 4.0, "black": -1.0},
    SuperResolution: {
        "factor": 2.0,
        "filter": "bicubic",
        "shape": (16, 16),
        "dimensions": 2,
    },
    Tomography: {"angles": (0.0, 30.0), "shape": (16, 16), "spacing": 1.0},
    Transmission: {"photons": 100.0, "background": 1.0},
    UniformNoise: {"step": 0.1},
    VaryingBlur: {
        "kernels": KERNEL[None],
        "weights": torch.ones(1, 16, 16),
        "boundary": "reflect",
    },
    angles_between: {"count": 4, "start": 0.0, "stop": 180.0},
    bilinear_weights: {"grid": (2, 2), "shape": (16, 16)},
    birdcage_maps: {"coils": 2, "height": 8, "width": 8},
    box_mask: {"height": 8, "width": 8, "top": 1, "left": 1, "box_height": 2, "box_width": 2},
    cartesian_mask: {"height": 8, "width": 8, "acceleration": 2.0, "centre": 0.1},
    random_mask: {"height": 8, "width": 8, "missing": 0.5},
}
# made of other operators, or of functions; their settings are not numbers
COMPOSITES = {
    "Composition",
    "Jacobian",
    "LinearFunction",
    "NonlinearComposition",
    "NonlinearFunction",
    "NonlinearStack",
    "Stack",
}
BAD: dict[str, Any] = {
    "nan": NAN,
    "inf": INF,
    "-inf": -INF,
    "0": 0,
    "-1": -1,
    "1e-9": 1e-9,
    "1e12": 1e12,
    "10^400": 10**400,
    "2.5": 2.5,
    "text": "text",
    "None": None,
    "True": True,
    "list": [1],
    "tensor": torch.ones(2),
    "complex": 1j,
    "pair of nan": (NAN, NAN),
    "pair of 1e12": (1e12, 1e12),
}
SETTINGS = [(make, name) for make, sound in SOUND.items() for name in sound]


def finite(*tensors: Tensor) -> None:
    assert all(bool(torch.isfinite(x.double()).all()) for x in tensors)


def use(made: object) -> None:
    """Use what was made as a solver does."""
    if isinstance(made, Operator):
        y = made.apply(X)
        finite(y, made.vjp(X, torch.ones_like(y)))
        if isinstance(made, LinearOperator):
            finite(made.prox(torch.zeros_like(X), y, 0.1, 0.5))
    elif isinstance(made, Noise):
        y = made.sample(X / 2, seeded())
        finite(y, made.score(y, X / 2))
        assert not bool(made.log_prob(y, X / 2).isnan().any())
    elif isinstance(made, Tensor):
        finite(torch.view_as_real(made) if made.is_complex() else made)
    else:
        assert isinstance(made, tuple)
        finite(torch.tensor(made))


def test_every_class_is_in_the_table() -> None:
    known: Sequence[type] = [*known_operators(), *known_noises()]
    ours = {kind.__name__ for kind in known if kind.__module__.startswith("problems.")}
    assert ours - COMPOSITES <= {make.__name__ for make in SOUND}


@pytest.mark.parametrize("make", SOUND, ids=lambda make: make.__name__)
def test_the_table_is_sound(make: Callable[..., Any]) -> None:
    use(make(**SOUND[make]))


@pytest.mark.filterwarnings("ignore::problems.linalg.solve.SolveWarning")
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    ("make", "name"), SETTINGS, ids=[f"{make.__name__}-{name}" for make, name in SETTINGS]
)
def test_a_setting_out_of_range(make: Callable[..., Any], name: str, bad: str) -> None:
    try:
        use(make(**SOUND[make] | {name: BAD[bad]}))
    except ValueError as error:
        message = str(error)
        assert "\n" not in message and len(message) < 400


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: MotionBlur(1e9), "length of a motion blur .*at most 4095, got 1000000000.0"),
        (lambda: MotionBlur(0.5), "length of a motion blur must be at least 1, got 0.5"),
        (lambda: GaussianBlur(1e9), "kernel of 8e\\+09 pixels a side, at most 4096"),
        (lambda: GaussianBlur(1.0, truncate=1e9), "kernel of 2e\\+09 pixels a side"),
        (lambda: DiskBlur(1e9), "radius of a disk .*at most 256, got 1000000000.0"),
        (lambda: PhaseRetrieval(1e6), "oversampling .*at most 64, got 1000000.0"),
        (lambda: SuperResolution(1e12), "factor .*at most 4096"),
        (lambda: Quantisation(2**40), "at most 16777216, got"),
        (lambda: random_mask(10**9, 10**9, 0.5), "at most 1073741824 entries"),
        (lambda: Tomography((0.0,), (10**9, 10**9)), "at most 1073741824 entries"),
        (lambda: angles_between(10**12), "number of angles .*at most 1.04858e\\+06"),
        (lambda: GaussianNoise("loud"), "noise level must be a finite number >= 0, got loud"),  # type: ignore[arg-type]
        (lambda: GaussianNoise(1e300), "noise level must be a finite number >= 0, got 1e\\+300"),
        (lambda: Inpainting([[1, 0]]), "a mask must be a tensor of real numbers, got list"),  # type: ignore[arg-type]
        (
            lambda: SuperResolution(2.5).prox(X, SuperResolution(2.5).apply(X), 0.1, 0.1),
            "stands for x of shape .*give the operator the size of x",
        ),
    ],
)
def test_the_message_names_the_value(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attempt()


class TestMotionOfAnyLength:
    def test_the_line_has_its_length(self) -> None:
        """Along the row of the kernel the weights are the overlap of the line with each pixel."""
        for length in (1.0, 1.4, 2.0, 3.0, 4.0, 6.5, 15.7):
            kernel = MotionBlur(length).kernel
            half = kernel.shape[0] // 2
            left = torch.arange(-half, half + 1, dtype=F64) - 0.5
            overlap = ((left + 1).clamp_max(length / 2) - left.clamp_min(-length / 2)).clamp_min(0)
            torch.testing.assert_close(kernel[half], overlap / length, rtol=1e-13, atol=1e-16)
            assert float(kernel.sum()) == pytest.approx(1.0, abs=1e-14)

    def test_variance_grows_with_the_length(self) -> None:
        """No length is rounded to another one."""
        lengths = torch.linspace(3, 17, 57, dtype=F64)
        variances = []
        for length in lengths.tolist():
            kernel = MotionBlur(length, 30.0).kernel
            place = torch.arange(len(kernel), dtype=F64) - len(kernel) // 2
            variances.append(float((kernel * (place[:, None] ** 2 + place**2)).sum()))
        assert all(a < b for a, b in itertools.pairwise(variances))

    def test_odd_lengths_are_those_of_kornia(self) -> None:
        from kornia.filters import get_motion_kernel2d

        for length, angle in ((3, 30.0), (5, 137.3), (15, -20.0), (31, 90.0)):
            angles = torch.tensor([angle], dtype=F64)
            expected = get_motion_kernel2d(length, angles, torch.zeros(1, dtype=F64), "bilinear")
            torch.testing.assert_close(
                MotionBlur(length, angle).kernel, expected[0], rtol=1e-12, atol=1e-16
            )


def test_numbers_of_every_type_are_numbers() -> None:
    import numpy as np

    for value in (3, 3.0, np.float32(3), np.int64(3), torch.tensor(3), torch.tensor([3.0])):
        assert check_number(value, "n", least=1, whole=True) == 3.0
    assert check_sizes([np.int64(2), 3], "shape") == (2, 3)
