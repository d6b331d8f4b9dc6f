"""The problems that ``scoresde restore`` knows by name, and how options make an operator of each."""

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

__all__ = [
    "PROBLEMS",
    "ImageContext",
    "ProblemEntry",
    "ProblemOptions",
    "build_noise",
    "build_operator",
]


@dataclass(frozen=True)
class ProblemOptions:
    """The options of ``scoresde restore`` that describe the damage. problem: a name from ``PROBLEMS``, or a .json file of
    ``InverseProblem.describe``. set: NAME=VALUE of the problem's own settings. photons: of a white pixel, None for no counting noise."""

    problem: str
    mask: Path | None = None
    box: str | None = None
    random: float | None = None
    kernel: Path | None = None
    gaussian: float | None = None
    motion: str | None = None
    disk: float | None = None
    boundary: str = "reflect"
    scale: float = 4.0
    filter: str = "bicubic"
    photons: float | None = None
    set: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageContext:
    """The picture at hand: the truth when simulating, else the measurement. Its file, its size, and random numbers for masks."""

    image: Path
    height: int
    width: int
    simulate: bool
    generator: torch.Generator

    @property
    def size(self) -> tuple[int, int]:
        return self.height, self.width


Build = Callable[[ProblemOptions, dict[str, Any], ImageContext], Operator]


@dataclass(frozen=True)
class ProblemEntry:
    """A named problem: a line for ``scoresde list``, how to make the operator, its ``--set`` settings with their defaults, and which
    of the other options it looks at."""

    summary: str
    build: Build
    settings: dict[str, Any] = field(default_factory=dict)
    uses: tuple[str, ...] = ()


def build_operator(
    options: ProblemOptions, context: ImageContext
) -> tuple[Operator, dict[str, Any]]:
    """(operator, what was asked for, in words)."""
    with as_input_error():
        if options.problem.endswith(".json"):
            return _described(Path(options.problem)).operator, {"problem": options.problem}
        if options.problem not in PROBLEMS:
            raise InputError(
                f"unknown problem {options.problem!r}; known: {', '.join(PROBLEMS)}, or a .json file that describes one"
            )
        entry = PROBLEMS[options.problem]
        chosen = settings(options.set, entry.settings, options.problem)
        operator = entry.build(options, chosen, context)
    missing = (
        {"missing": 1 - operator.mask.double().mean().item()}
        if isinstance(operator, Inpainting)
        else {}
    )
    return operator, {"problem": options.problem, **chosen, **missing}


def build_noise(options: ProblemOptions, sigma: float | None, default: float) -> Noise:
    """sigma: what the user asked for, or None: then a description's own noise, or the default level."""
    if sigma is not None and not sigma > 0:
        raise InputError(
            f"--sigma must be above 0 (a standard deviation on [-1, 1]), got {sigma:g}; for a clean picture use 0.01"
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
        raise InputError(
            f"cannot read the problem {path}: {getattr(error, 'strerror', None) or error}"
        ) from None


def _one_of(options: ProblemOptions, names: tuple[str, ...], otherwise: str) -> str | None:
    given = [name for name in names if getattr(options, name) is not None]
    if len(given) > 1:
        raise InputError(f"--{given[0]} and --{given[1]} exclude each other; give one")
    if not given and otherwise:
        raise InputError(otherwise)
    return given[0] if given else None


def _inpaint(options: ProblemOptions, _: dict[str, Any], context: ImageContext) -> Operator:
    choice = _one_of(options, ("mask", "box", "random"), "")
    if choice == "mask" and options.mask is not None:
        return Inpainting(read_mask(options.mask, context.size))
    if choice == "box":
        return Inpainting(
            box_mask(
                *context.size, *numbers(options.box or "", int, "--box", "TOP,LEFT,HEIGHT,WIDTH")
            )
        )
    if choice == "random":
        return Inpainting(
            random_mask(*context.size, float(options.random or 0.0), context.generator)
        )
    alpha = _read_transparency(context.image)
    if alpha is None:
        raise InputError(
            "inpaint needs --mask FILE (white is missing), --box TOP,LEFT,HEIGHT,WIDTH or --random FRACTION"
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
    names = ("kernel", "gaussian", "motion", "disk")
    choice = _one_of(
        options,
        names,
        "deblur needs --kernel FILE, --gaussian STD, --motion LENGTH,ANGLE or --disk RADIUS",
    )
    boundary: Any = options.boundary
    if choice == "gaussian":
        return GaussianBlur(options.gaussian or 0.0, boundary)
    if choice == "disk":
        return DiskBlur(options.disk or 0.0, boundary)
    if choice == "motion":
        length, angle = numbers(options.motion or "", float, "--motion", "LENGTH,ANGLE")
        return MotionBlur(int(length), angle, boundary)
    assert options.kernel is not None
    return Blur(read_kernel(options.kernel), boundary)


def _super_resolve(options: ProblemOptions, _: dict[str, Any], context: ImageContext) -> Operator:
    if options.kernel is not None:
        if options.scale != int(options.scale):
            raise InputError(
                f"with --kernel the --scale must be a whole number, got {options.scale:g}"
            )
        return Decimation(read_kernel(options.kernel), int(options.scale), options.boundary)  # type: ignore[arg-type]
    size = context.size if context.simulate else None
    return SuperResolution(options.scale, options.filter, size)  # type: ignore[arg-type]


def _colourise(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    weights = {"mean": (1 / 3, 1 / 3, 1 / 3), "luma": (0.299, 0.587, 0.114)}
    if chosen["weights"] not in weights:
        raise InputError(f"--set weights takes mean or luma, got {chosen['weights']!r}")
    return Grayscale(weights[chosen["weights"]])


def _sized(chosen: dict[str, Any], context: ImageContext) -> tuple[int, int]:
    """Of the picture behind a measurement that does not show it."""
    if context.simulate:
        return context.size
    if not chosen["size"]:
        raise InputError("say how large the picture is: --set size=HEIGHT,WIDTH")
    height, width = numbers(chosen["size"], int, "--set size", "HEIGHT,WIDTH")
    return height, width


def _sense(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    return CompressedSensing(
        chosen["fraction"], _sized(chosen, context), chosen["transform"], chosen["seed"]
    )


def _mri(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    if options.mask is not None:
        mask = read_mask(options.mask, context.size, white="observed")
    else:
        mask = cartesian_mask(
            *context.size, chosen["acceleration"], chosen["centre"], context.generator
        )
    return MRI(
        mask, birdcage_maps(chosen["coils"], *context.size) if chosen["coils"] != 1 else None
    )


def _tomography(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    return Tomography(angles_between(chosen["angles"]), _sized(chosen, context))


def _gamma_blur(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    return Gamma(1 / chosen["gamma"]) @ _deblur(options, chosen, context) @ Gamma(chosen["gamma"])


_BLURS = ("kernel", "gaussian", "motion", "disk", "boundary")

PROBLEMS: dict[str, ProblemEntry] = {
    "denoise": ProblemEntry("noise alone", lambda *_: Denoising()),
    "inpaint": ProblemEntry(
        "missing pixels: --mask FILE (white is missing), --box TOP,LEFT,HEIGHT,WIDTH, --random FRACTION, or transparency", _inpaint,
        uses=("mask", "box", "random"),
    ),
    "deblur": ProblemEntry("known blur: --kernel FILE, --gaussian STD, --motion LENGTH,ANGLE, --disk RADIUS", _deblur, uses=_BLURS),
    "super-resolve": ProblemEntry(
        "a small picture: --scale FACTOR, --filter bicubic|bilinear|lanczos3|average or --kernel FILE", _super_resolve,
        uses=("scale", "filter", "kernel", "boundary"),
    ),
    "colourise": ProblemEntry("a grey picture of a colour scene", _colourise, {"weights": "mean"}),
    "demosaic": ProblemEntry(
        "the raw mosaic of a camera, one colour a pixel", lambda o, s, f: Demosaicing(s["pattern"]), {"pattern": "RGGB"}
    ),
    "compressed-sensing": ProblemEntry(
        "a few coefficients of a transform: random, dct or hadamard", _sense,
        {"fraction": 0.25, "transform": "random", "seed": 0, "size": ""},
    ),
    "mri": ProblemEntry(
        "undersampled k-space, columns at random or --mask FILE (white is measured)", _mri,
        {"acceleration": 4.0, "centre": 0.08, "coils": 1}, ("mask",),
    ),
    "tomography": ProblemEntry("line integrals from angles over 180 degrees (CT)", _tomography, {"angles": 60, "size": ""}),
    "phase-retrieval": ProblemEntry(
        "magnitudes of the Fourier transform",
        lambda o, s, f: PhaseRetrieval(s["oversampling"], shape=f.size if f.simulate else None), {"oversampling": 2.0},
    ),
    "hdr": ProblemEntry("a picture exposed too long, its lights clipped", lambda o, s, f: Clipping(s["gain"]), {"gain": 2.0}),
    "jpeg": ProblemEntry(
        "the artefacts of JPEG", lambda o, s, f: JPEG(s["quality"], s["subsampling"]), {"quality": 10, "subsampling": True}
    ),
    "quantise": ProblemEntry("few grey levels", lambda o, s, f: Quantisation(s["levels"]), {"levels": 8}),
    "gamma-blur": ProblemEntry("blur of light, seen through a gamma curve: as deblur", _gamma_blur, {"gamma": 2.2}, _BLURS),
}  # fmt: skip
