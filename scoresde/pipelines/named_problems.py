"""The problems that `scoresde restore` knows by name, and how options make an operator of each."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
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
    box_mask,
    cartesian_mask,
    problem_from,
    random_mask,
    read_kernel,
    read_mask,
)
from scoresde.errors import InputError
from scoresde.pipelines.parsing import as_input_error, numbers, settings
from scoresde.pipelines.settings import ProblemOptions

__all__ = [
    "PROBLEMS",
    "ImageContext",
    "ProblemEntry",
    "build_noise",
    "build_operator",
]


@dataclass(frozen=True)
class ImageContext:
    """The picture at hand: the truth when simulating, else the measurement.

    Args:
        image: Its file.
        height: Its height in pixels.
        width: Its width in pixels.
        simulate: Whether it is the truth.
        generator: Random numbers of masks, and then of the noise.
    """

    image: Path
    height: int
    width: int
    simulate: bool
    generator: torch.Generator

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.height, self.width


Build = Callable[[ProblemOptions, dict[str, Any], ImageContext], Operator]


@dataclass(frozen=True)
class ProblemEntry:
    """A named problem.

    Args:
        summary: A line for `scoresde list`.
        build: Makes the operator of the options, the settings and the picture.
        settings: Names and defaults of its `--set` settings.
        uses: Names of the other options that it uses.
    """

    summary: str
    build: Build
    settings: dict[str, Any] = field(default_factory=dict)
    uses: tuple[str, ...] = ()


def build_operator(
    options: ProblemOptions, context: ImageContext
) -> tuple[Operator, dict[str, Any]]:
    """Build the operator of a named or described problem.

    Args:
        options: Which problem, and its options.
        context: The picture at hand.

    Returns:
        The operator, and the problem in plain values.

    Raises:
        InputError: If the problem is unknown or an option cannot be used.
    """
    with as_input_error():
        if options.problem.endswith(".json"):
            return _described(Path(options.problem)).operator, {"problem": options.problem}
        if options.problem not in PROBLEMS:
            raise InputError(
                f"unknown problem {options.problem!r}; known: {', '.join(PROBLEMS)}, or a .json "
                "file that describes one"
            )
        entry = PROBLEMS[options.problem]
        chosen = settings(options.set, entry.settings, options.problem)
        operator = entry.build(options, chosen, context)
    description = {"problem": options.problem, **chosen}
    if isinstance(operator, Inpainting):
        description["missing"] = 1 - operator.mask.double().mean().item()
    return operator, description


def build_noise(options: ProblemOptions, sigma: float | None, default: float) -> Noise:
    """Build the noise of a problem.

    Args:
        options: Which problem, and its photons.
        sigma: Standard deviation on [-1, 1]; None for a description's own noise, or the default.
        default: The default standard deviation.

    Returns:
        The noise.

    Raises:
        InputError: If sigma or the photons are not positive.
    """
    if sigma is not None and not sigma > 0:
        raise InputError(
            f"--sigma must be above 0 (a standard deviation on [-1, 1]), got {sigma:g}; "
            "for a clean picture use 0.01"
        )
    with as_input_error():
        if options.photons is not None:
            return PoissonGaussianNoise(options.photons, default if sigma is None else sigma)
        if sigma is None and options.problem.endswith(".json"):
            return _described(Path(options.problem)).noise
        return GaussianNoise(default if sigma is None else sigma)


def _described(path: Path) -> InverseProblem:
    try:
        return problem_from(json.loads(path.read_text()))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read the problem {path}: {reason}") from None


Choices = dict[str, Callable[[Any, ImageContext], Operator]]


def _build_given(
    options: ProblemOptions, choices: Choices, context: ImageContext
) -> Operator | None:
    """The operator of the one option that is given; None if none is."""
    given = [name for name in choices if getattr(options, name) is not None]
    if len(given) > 1:
        raise InputError(f"--{given[0]} and --{given[1]} exclude each other; give one")
    if not given:
        return None
    return choices[given[0]](getattr(options, given[0]), context)


def _box(text: str, context: ImageContext) -> Operator:
    corners = numbers(text, int, "--box", "TOP,LEFT,HEIGHT,WIDTH")
    return Inpainting(box_mask(*context.size, *corners))


_MASKS: Choices = {
    "mask": lambda path, context: Inpainting(read_mask(path, context.size)),
    "box": _box,
    "random": lambda fraction, context: Inpainting(
        random_mask(*context.size, float(fraction), context.generator)
    ),
}


def _inpaint(options: ProblemOptions, _: dict[str, Any], context: ImageContext) -> Operator:
    operator = _build_given(options, _MASKS, context)
    if operator is not None:
        return operator
    alpha = _read_transparency(context.image)
    if alpha is None:
        raise InputError(
            "inpaint needs --mask FILE (white is missing), --box TOP,LEFT,HEIGHT,WIDTH or "
            "--random FRACTION"
        )
    return Inpainting(alpha)


def _read_transparency(path: Path) -> Tensor | None:
    """(H, W), True where opaque; None if nothing is transparent."""
    if path.suffix == ".npy":
        return None
    with Image.open(path) as file:
        if "A" not in file.getbands() and "transparency" not in file.info:
            return None
        alpha = torch.from_numpy(np.array(ImageOps.exif_transpose(file).convert("RGBA"))[..., 3])
    return None if bool((alpha >= 128).all()) else alpha >= 128


def _deblur(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    boundary: Any = options.boundary

    def motion(text: str, _: ImageContext) -> Operator:
        length, angle = numbers(text, float, "--motion", "LENGTH,ANGLE")
        return MotionBlur(int(length), angle, boundary)

    operator = _build_given(
        options,
        {
            "kernel": lambda path, _: Blur(read_kernel(path), boundary),
            "gaussian": lambda std, _: GaussianBlur(std, boundary),
            "motion": motion,
            "disk": lambda radius, _: DiskBlur(radius, boundary),
        },
        context,
    )
    if operator is None:
        raise InputError(
            "deblur needs --kernel FILE, --gaussian STD, --motion LENGTH,ANGLE or --disk RADIUS"
        )
    return operator


def _super_resolve(options: ProblemOptions, _: dict[str, Any], context: ImageContext) -> Operator:
    boundary: Any = options.boundary
    if options.kernel is not None:
        if options.scale != int(options.scale):
            raise InputError(
                f"with --kernel the --scale must be a whole number, got {options.scale:g}"
            )
        return Decimation(read_kernel(options.kernel), int(options.scale), boundary)
    name: Any = options.filter
    return SuperResolution(options.scale, name, context.size if context.simulate else None)


def _colourise(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    weights = {"mean": (1 / 3, 1 / 3, 1 / 3), "luma": (0.299, 0.587, 0.114)}
    if chosen["weights"] not in weights:
        raise InputError(f"--set weights takes mean or luma, got {chosen['weights']!r}")
    return Grayscale(weights[chosen["weights"]])


def _size(chosen: dict[str, Any], context: ImageContext) -> tuple[int, int]:
    """Of the picture behind a measurement that does not show it."""
    if context.simulate:
        return context.size
    if not chosen["size"]:
        raise InputError("say how large the picture is: --set size=HEIGHT,WIDTH")
    height, width = numbers(chosen["size"], int, "--set size", "HEIGHT,WIDTH")
    return height, width


def _sense(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    size = _size(chosen, context)
    return CompressedSensing(chosen["fraction"], size, chosen["transform"], chosen["seed"])


def _mri(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    if options.mask is not None:
        mask = read_mask(options.mask, context.size, white="observed")
    else:
        mask = cartesian_mask(
            *context.size, chosen["acceleration"], chosen["centre"], context.generator
        )
    coils = chosen["coils"]
    return MRI(mask, birdcage_maps(coils, *context.size) if coils != 1 else None)


def _tomography(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    return Tomography(angles_between(chosen["angles"]), _size(chosen, context))


def _gamma_blur(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    return Gamma(1 / chosen["gamma"]) @ _deblur(options, chosen, context) @ Gamma(chosen["gamma"])


_BLURS = ("kernel", "gaussian", "motion", "disk", "boundary")

PROBLEMS: dict[str, ProblemEntry] = {
    "denoise": ProblemEntry("noise alone", lambda *_: Denoising()),
    "inpaint": ProblemEntry(
        "missing pixels: --mask FILE (white is missing), --box TOP,LEFT,HEIGHT,WIDTH, "
        "--random FRACTION, or transparency",
        _inpaint,
        uses=("mask", "box", "random"),
    ),
    "deblur": ProblemEntry(
        "known blur: --kernel FILE, --gaussian STD, --motion LENGTH,ANGLE, --disk RADIUS",
        _deblur,
        uses=_BLURS,
    ),
    "super-resolve": ProblemEntry(
        "a small picture: --scale FACTOR, --filter bicubic|bilinear|lanczos3|average or "
        "--kernel FILE",
        _super_resolve,
        uses=("scale", "filter", "kernel", "boundary"),
    ),
    "colourise": ProblemEntry("a grey picture of a colour scene", _colourise, {"weights": "mean"}),
    "demosaic": ProblemEntry(
        "the raw mosaic of a camera, one colour per pixel",
        lambda options, chosen, context: Demosaicing(chosen["pattern"]),
        {"pattern": "RGGB"},
    ),
    "compressed-sensing": ProblemEntry(
        "a few coefficients of a transform: random, dct or hadamard",
        _sense,
        {"fraction": 0.25, "transform": "random", "seed": 0, "size": ""},
    ),
    "mri": ProblemEntry(
        "undersampled k-space, random columns or --mask FILE (white is measured)",
        _mri,
        {"acceleration": 4.0, "centre": 0.08, "coils": 1},
        ("mask",),
    ),
    "tomography": ProblemEntry(
        "line integrals from angles over 180 degrees (CT)", _tomography, {"angles": 60, "size": ""}
    ),
    "phase-retrieval": ProblemEntry(
        "magnitudes of the Fourier transform",
        lambda options, chosen, context: PhaseRetrieval(
            chosen["oversampling"], shape=context.size if context.simulate else None
        ),
        {"oversampling": 2.0},
    ),
    "hdr": ProblemEntry(
        "an overexposed picture with clipped highlights",
        lambda options, chosen, context: Clipping(chosen["gain"]),
        {"gain": 2.0},
    ),
    "jpeg": ProblemEntry(
        "the artefacts of JPEG",
        lambda options, chosen, context: JPEG(chosen["quality"], chosen["subsampling"]),
        {"quality": 10, "subsampling": True},
    ),
    "quantise": ProblemEntry(
        "few grey levels",
        lambda options, chosen, context: Quantisation(chosen["levels"]),
        {"levels": 8},
    ),
    "gamma-blur": ProblemEntry(
        "blur of linear light, then a gamma curve; options as deblur",
        _gamma_blur,
        {"gamma": 2.2},
        _BLURS,
    ),
}
"""The named problems."""
