"""The problems that `scoresde restore` knows by name, and how options make an operator of each."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

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
from problems.checks import unknown
from problems.reading.masks import check_misses
from problems.reading.pictures import MAX_PIXELS, JPEGCoding, Picture
from problems.reading.regular import read_text_file
from scoresde.errors import InputError
from scoresde.pipelines.parsing import as_input_error, numbers, settings
from scoresde.pipelines.settings import ProblemOptions

__all__ = [
    "PROBLEMS",
    "ImageContext",
    "ProblemEntry",
    "build_noise",
    "build_operator",
    "check_used",
    "entry_of",
    "is_described",
]


@dataclass(frozen=True)
class ImageContext:
    """The picture at hand: the truth when simulating, else the measurement.

    Args:
        height: Its height in pixels.
        width: Its width in pixels.
        simulate: Whether it is the truth.
        generator: Random numbers of masks.
        file: What its file holds beside the values; None for an array.
    """

    height: int
    width: int
    simulate: bool
    generator: torch.Generator
    file: Picture | None = None

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
        picture: Whether its measurement is a picture, with black and white.
        solver: Name of the solver that it is restored by; None for the default one.
        starts: Runs for each draw, of which the one with the smallest residual is kept.
        kind: Class of its operator, if `solver` or `starts` hold for it in a description, too.
    """

    summary: str
    build: Build
    settings: dict[str, Any] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    picture: bool = True
    solver: str | None = None
    starts: int = 1
    kind: type[Operator] | None = None


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
    check_used(options)
    if is_described(options.problem):
        return _described(Path(options.problem)).operator, {"problem": options.problem}
    entry = PROBLEMS[options.problem]
    with as_input_error():
        chosen = settings(options.set, entry.settings, options.problem)
    try:
        operator = entry.build(options, chosen, context)
    except InputError:
        raise
    except (ValueError, OverflowError) as error:
        raise InputError(f"{_command(options)}: {error}") from None
    description = {"problem": options.problem, **chosen}
    if isinstance(operator, Inpainting):
        with as_input_error():
            check_misses(operator.mask, "the mask")
        description["missing"] = 1 - operator.mask.double().mean().item()
    if isinstance(operator, JPEG) and operator.tables is not None:
        description |= {
            "quality": "the tables of the file",
            "subsampling": operator.subsampling,
        }
    return operator, description


def _command(options: ProblemOptions) -> str:
    """The options that made an operator, as they are written."""
    words = [f"--problem {options.problem}"]
    for name in options.given():
        value = getattr(options, name)
        if name == "set":
            words += [f"--set {pair}" for pair in value]
        elif name not in _COMMON:
            words.append(_flag(name) if value is True else f"{_flag(name)} {value}")
    return " ".join(words)


def is_described(problem: str) -> bool:
    """Tell a file that describes a problem from the name of one.

    Args:
        problem: What was given as the problem.

    Returns:
        Whether it is the path of a JSON file.
    """
    return problem.lower().endswith(".json")


# of every problem; they say how the file is read, except photons
_COMMON = ("photons", "range", "array", "select")


def check_used(options: ProblemOptions) -> None:
    """Check that the problem is known and uses every option that is given.

    Args:
        options: Which problem, and its options.

    Raises:
        InputError: If it is not known, or if an option would do nothing.
    """
    name, described = options.problem, is_described(options.problem)
    if not described and name not in PROBLEMS:
        raise InputError(
            f"{unknown('problem', name, PROBLEMS)}, or a .json file that describes one"
        )
    uses = () if described else PROBLEMS[name].uses
    for option in options.given():
        if option == "set":
            if described:
                raise InputError(f"--set does nothing with {name}, which holds all settings")
        elif option not in (*_COMMON, *uses):
            users = [other for other, entry in PROBLEMS.items() if option in entry.uses]
            raise InputError(
                f"{_flag(option)} does nothing for {name}; it belongs to {', '.join(users)}"
            )
    for option, needed in _NEEDS.items():
        if option in options.given() and not any(getattr(options, one) for one in needed):
            files = " or ".join(f"{_flag(one)} FILE" for one in needed if one in uses)
            raise InputError(f"{_flag(option)} does nothing without {files}")


# options that say more of a file
_NEEDS = {
    "mask_value": ("mask",),
    "invert_mask": ("mask",),
    "key": ("mask", "kernel"),
    "noise_scan": ("maps",),
}


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def build_noise(options: ProblemOptions, sigma: float | None, default: float) -> Noise:
    """Build the noise of a problem.

    Args:
        options: Which problem, and its photons.
        sigma: Standard deviation on [-1, 1]; None for a description's own noise, or the default.
        default: The default standard deviation.

    Returns:
        The noise.

    Raises:
        InputError: If sigma or the photons are not positive, or the photons are "auto".
    """
    if sigma is not None and not 0 < sigma < math.inf:
        raise InputError(
            f"--sigma must be above 0 and finite (a standard deviation on [-1, 1]), got {sigma:g}; "
            "for a clean picture use 0.01"
        )
    photons = options.stated_photons
    if options.photons is not None and photons is None:
        raise InputError("--photons auto needs one measurement to look at; give --photons a number")
    with as_input_error():
        if photons is not None:
            return PoissonGaussianNoise(photons, default if sigma is None else sigma)
        if sigma is None and is_described(options.problem):
            return _described(Path(options.problem)).noise
        return GaussianNoise(default if sigma is None else sigma)


def _described(path: Path) -> InverseProblem:
    try:
        content = json.loads(read_text_file(path))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        if isinstance(error, RecursionError):
            reason = "its content is nested too deeply"
        raise InputError(f"cannot read the problem {path}: {reason}") from None
    try:
        return problem_from(content)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} does not describe a problem: {reason}") from None


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


def _inpaint(options: ProblemOptions, _: dict[str, Any], context: ImageContext) -> Operator:
    operator = _build_given(
        options,
        {
            "mask": lambda path, context: Inpainting(
                read_mask(
                    path,
                    context.size,
                    options.key,
                    invert=options.invert_mask,
                    value=options.mask_value,
                )
            ),
            "box": _box,
            "random": lambda missing, context: Inpainting(
                random_mask(*context.size, missing, context.generator)
            ),
        },
        context,
    )
    if operator is not None:
        return operator
    alpha = None if context.file is None else context.file.alpha
    if alpha is None or (alpha >= 0.5).all():
        raise InputError(
            "inpaint needs --mask FILE (white is missing), --box TOP,LEFT,HEIGHT,WIDTH or "
            "--random FRACTION; the picture has no transparent pixels either"
        )
    if not (alpha >= 0.5).any():
        raise InputError(
            "all pixels of the picture are transparent, so that nothing is observed; give a --mask"
        )
    return Inpainting(torch.from_numpy(alpha >= 0.5))


def _deblur(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    boundary: Any = options.value("boundary")
    if options.kernel_size is not None:
        raise InputError("--kernel-size is the side of a --kernel auto; a kernel has its own")

    def motion(text: str, _: ImageContext) -> Operator:
        length, angle = numbers(text, float, "--motion", "LENGTH,ANGLE")
        return MotionBlur(length, angle, boundary)

    operator = _build_given(
        options,
        {
            "kernel": lambda path, _: Blur(read_kernel(path, options.key), boundary),
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
    scale, boundary = options.value("scale"), options.value("boundary")
    if options.kernel is not None:
        if options.filter is not None:
            raise InputError("--filter and --kernel exclude each other; give one")
        if not float(scale).is_integer():
            raise InputError(f"with --kernel the --scale must be a whole number, got {scale:g}")
        return Decimation(read_kernel(options.kernel, options.key), int(scale), boundary)
    if options.boundary is not None:
        raise InputError("--boundary does nothing for super-resolve without --kernel")
    size = context.size if context.simulate else None
    return SuperResolution(scale, options.value("filter"), size)


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
    if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
        raise InputError(f"--set size takes the sides of a picture, got {chosen['size']}")
    return height, width


def _at_most(chosen: dict[str, Any], name: str, top: int) -> int:
    """A number that decides how much memory an operator takes."""
    value: int = chosen[name]
    if not 1 <= value <= top:
        raise InputError(f"--set {name} must be a whole number from 1 to {top}, got {value}")
    return value


def _sense(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    size = _size(chosen, context)
    if not 0 <= chosen["seed"] < 2**63:
        raise InputError(f"--set seed must be from 0 to 2^63 - 1, got {chosen['seed']}")
    return CompressedSensing(chosen["fraction"], size, chosen["transform"], chosen["seed"])


def _mri(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    if options.maps is not None:
        raise InputError(
            "--maps is for measured k-space, which `scoresde restore` takes; where it is simulated "
            "say --set coils=NUMBER"
        )
    if any(pair.partition("=")[0] == "calibration" for pair in options.set):
        raise InputError("--set calibration does nothing without --maps estimate")
    if options.mask is not None:
        mask = read_mask(
            options.mask,
            context.size,
            options.key,
            "observed",
            invert=options.invert_mask,
            value=options.mask_value,
        )
    else:
        mask = cartesian_mask(
            *context.size, chosen["acceleration"], chosen["centre"], context.generator
        )
    coils = _at_most(chosen, "coils", 1024)
    return MRI(mask, birdcage_maps(coils, *context.size) if coils != 1 else None)


def _tomography(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    angles = _at_most(chosen, "angles", 100_000)
    spacing = None
    if chosen["spacing"]:
        (spacing,) = numbers(chosen["spacing"], float, "--set spacing", "WIDTH")
    with as_input_error():
        return Tomography(angles_between(angles), _size(chosen, context), spacing)


def _jpeg(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    said = [pair.partition("=")[0] for pair in options.set]
    coding = None if context.file is None else context.file.jpeg
    if context.simulate or "quality" in said:
        return JPEG(chosen["quality"], chosen["subsampling"])
    if coding is None:
        kind = "array" if context.file is None else context.file.kind
        raise InputError(
            f"the picture ({kind}) does not tell how it was compressed; say --set quality=1..100"
        )
    tables = (coding.luma,) if coding.chroma is None else (coding.luma, coding.chroma)
    return JPEG(None, _subsampling(coding), tables)


def _subsampling(coding: JPEGCoding) -> Any:
    names = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}
    if coding.sampling not in names:
        across, down = coding.sampling
        raise InputError(
            f"the file stores its colours at 1/{across} of the width and 1/{down} of the height; "
            "4:4:4, 4:2:2 and 4:2:0 are known"
        )
    return names[coding.sampling]


def _hdr(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    if not chosen["gain"] > 0:
        raise InputError(f"--set gain must be above 0, got {chosen['gain']:g}")
    return Clipping(chosen["gain"])


def _gamma_blur(options: ProblemOptions, chosen: dict[str, Any], context: ImageContext) -> Operator:
    if not chosen["gamma"] > 0:
        raise InputError(f"--set gamma must be above 0, got {chosen['gamma']:g}")
    return Gamma(1 / chosen["gamma"]) @ _deblur(options, chosen, context) @ Gamma(chosen["gamma"])


_BLURS = ("kernel", "kernel_size", "key", "gaussian", "motion", "disk", "boundary")
_MASKS = ("mask", "mask_value", "invert_mask", "key")

PROBLEMS: dict[str, ProblemEntry] = {
    "denoise": ProblemEntry("noise alone", lambda *_: Denoising()),
    "inpaint": ProblemEntry(
        "missing pixels: --mask FILE (white is missing), --box TOP,LEFT,HEIGHT,WIDTH, "
        "--random FRACTION, or transparency",
        _inpaint,
        uses=(*_MASKS, "box", "random"),
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
        uses=("scale", "filter", "kernel", "key", "boundary"),
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
        picture=False,
    ),
    "mri": ProblemEntry(
        "undersampled k-space, random columns or --mask FILE (white is measured); coils of a "
        "scanner: --maps estimate|FILE",
        _mri,
        {"acceleration": 4.0, "centre": 0.08, "coils": 1, "calibration": 24},
        (*_MASKS, "maps", "noise_scan"),
        picture=False,
    ),
    "tomography": ProblemEntry(
        "line integrals from angles over 180 degrees (CT)",
        _tomography,
        {"angles": 60, "size": "", "spacing": ""},
        picture=False,
    ),
    "phase-retrieval": ProblemEntry(
        "magnitudes of the Fourier transform",
        lambda options, chosen, context: PhaseRetrieval(
            chosen["oversampling"], shape=context.size if context.simulate else None
        ),
        {"oversampling": 2.0},
        picture=False,
        solver="annealed-gauss-newton",
        starts=4,
        kind=PhaseRetrieval,
    ),
    "hdr": ProblemEntry(
        "an overexposed picture with clipped highlights",
        _hdr,
        {"gain": 2.0},
        solver="dps",
        kind=Clipping,
    ),
    "jpeg": ProblemEntry(
        "the artefacts of JPEG: the tables of a JPEG file, or --set quality",
        _jpeg,
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


def entry_of(problem: str) -> ProblemEntry | None:
    """Find the named problem whose solver and starts a problem has.

    Args:
        problem: A name, or the path of a JSON file that describes a problem.

    Returns:
        The entry; None if there is none, or the file cannot be read, which is said elsewhere.

    Example:
        >>> entry_of("phase-retrieval").starts, entry_of("nothing")
        (4, None)
    """
    if not is_described(problem):
        return PROBLEMS.get(problem)
    try:
        operator = _described(Path(problem)).operator
    except InputError:
        return None
    kinds = ((one, one.kind) for one in PROBLEMS.values())
    return next((one for one, kind in kinds if kind and isinstance(operator, kind)), None)
