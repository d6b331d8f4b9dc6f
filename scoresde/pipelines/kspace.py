r"""Raw k-space of several coils: which samples were measured, sensitivities, white noise, units.

The image behind it is complex. With the prior's u of magnitudes up to about 1 it is g u, and

.. math:: k_c = M F (S_c\, g\, u) + n_c, \qquad E[n n^*] = \Psi = L L^* .

Both sides are divided by g and, if a scan of noise tells :math:`\Psi`, multiplied by
:math:`l L^{-1}`, where :math:`l^2` is the mean variance of a coil. What is measured then has white
noise of the standard deviation :math:`l / (\sqrt 2\, g)` in real and imaginary part, and both have
the units of the picture: without a noise scan, and with one that finds equal and independent coils,
nothing but g is divided by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from problems import (
    MRI,
    GaussianNoise,
    Noise,
    channels_of,
    coil_covariance,
    complex_of,
    espirit_maps,
    prewhiten,
    read_mask,
    root_sum_of_squares,
)
from problems.reading.arrays import read_array_file
from problems.reading.hdf5 import read_dataset
from problems.reading.ranges import ValueRange
from problems.reading.sources import open_source, source_format
from scoresde.errors import InputError, as_input_error
from scoresde.pipelines.default_noise import default_sigma
from scoresde.pipelines.inputs import Input, given_range, read_input
from scoresde.pipelines.kspace_brightness import brightest, coil_images, file_brightness
from scoresde.pipelines.named_problems import PROBLEMS, ImageContext, build_noise
from scoresde.pipelines.parsing import settings
from scoresde.pipelines.plan import Plan, check_options
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.pipelines.sigma_units import in_picture_units
from scoresde.pipelines.stack_results import slice_name

__all__ = ["KspaceRun", "prepare_kspace"]

_RULE = "of real and imaginary part, by the brightest pixel of the coils"
_LEAST_REGION = 12  # samples on a side; the blocks of ESPIRiT have 6


@dataclass(frozen=True)
class KspaceRun:
    """k-space in the units of the picture, and what is known of each slice.

    Args:
        given: The file, with the measurements (N, 2 coils, H, W).
        options: How it is restored, with the noise level on [-1, 1].
        plans: Operator and noise of each slice.
        zero_filled: Pictures (N, 1, H, W) of the root of the sum of squares of the coils, with
            zeros for what was not measured; None where the picture is real.
    """

    given: Input
    options: RestoreOptions
    plans: tuple[Plan, ...]
    zero_filled: Tensor | None


@dataclass(frozen=True)
class _Scan:
    """A file of k-space.

    Args:
        kspace: Samples (N, coils, H, W), complex, 0 where nothing was measured.
        masks: What was measured (N, H, W).
        maps: Sensitivities of each slice (coils, H, W); None for one ideal coil.
        words: How they were found.
        stated: Where the mask of the user or the file has samples (H, W); None without one.
        stored: Sensitivities of the file given by the user, (coils, H, W) or (slices, coils, H, W);
            None if they are estimated, whose root of the sum of squares is 1.
        covariance: Covariance of the coils; None without a noise scan.
    """

    kspace: Tensor
    masks: Tensor
    maps: tuple[Tensor | None, ...]
    words: str
    stated: Tensor | None
    stored: Tensor | None
    covariance: Tensor | None

    @property
    def level(self) -> float:
        """Standard deviation of the complex noise of an average coil; 1 if it is not known."""
        if self.covariance is None:
            return 1.0
        return math.sqrt(float(self.covariance.diagonal().real.mean()))

    def whiten(self, z: Tensor) -> Tensor:
        """Make the noise of the coils white, and as large as that of an average coil."""
        return z if self.covariance is None else self.level * prewhiten(z, self.covariance)


def prepare_kspace(
    image: Path, problem: ProblemOptions, options: RestoreOptions, channels: int
) -> KspaceRun:
    """Read k-space, and find out how it was measured.

    Args:
        image: File of complex k-space (coils, H, W), (slices, coils, H, W) as of fastMRI, or one
            coil (H, W), with the zero frequency in the middle.
        problem: Problem "mri" with `maps`.
        options: How it is restored.
        channels: Channels of the prior: 2 for complex images, 1 or 3 for real pictures.

    Returns:
        The measurements, with operator and noise.

    Raises:
        InputError: If k-space, mask, sensitivities or noise scan cannot be used, or the prior does
            not fit.
    """
    chosen = _settings(problem)
    check_options(options)
    given = read_input(image, replace(problem, range=None), simulate=False)
    kspace = _complex_kspace(given, image)
    names = [_where(image, given, index) for index in range(len(kspace))]
    scan = _scan(kspace, given, image, problem, int(chosen["calibration"]), names)
    if channels == 2:
        found = torch.stack([coil_images(one) for one in scan.kspace])
        start = root_sum_of_squares(found, axis=1)[:, None]
        low, high, rule = _brightness(problem, given, scan)
    else:
        start, (low, high, rule) = None, _real_range(problem, options.prior)
    half, middle = (high - low) / 2, (high + low) / 2
    counted = [f"{len(kspace[0])} coils" if len(kspace[0]) > 1 else "one coil"]
    counted += [f"{scan.masks.double().mean():.1%} of the samples are measured", scan.words]
    notes = [*given.notes, "; ".join(counted)]
    if channels != 2:
        notes.append("the picture is taken to be real: its phase is that of the --maps")
    operators = [
        MRI(mask, None if maps is None else scan.whiten(maps), complex_image=channels == 2)
        for mask, maps in zip(scan.masks, scan.maps, strict=True)
    ]
    y = torch.cat([channels_of(scan.whiten(one)[None]) for one in scan.kspace])
    if middle:
        white = torch.ones(1, 1, *y.shape[-2:])
        y = y - middle * torch.cat([one.apply(white) for one in operators])
    given = replace(
        given,
        x=y / half,
        range=ValueRange(low, high, rule, problem.range is not None),
        notes=tuple(notes),
    )
    options = in_picture_units(options, given)
    noise = _noise(problem, options, operators[0], scan, half)
    context = ImageContext(*given.size, False, torch.Generator(), None)
    description = {"problem": problem.problem, **chosen, "coils": len(kspace[0])}
    description |= {"maps": str(problem.maps), "measured": float(scan.masks.double().mean())}
    plans = tuple(
        Plan(operator, noise, description, context, torch.Generator(), name)
        for operator, name in zip(operators, names, strict=True)
    )
    zero_filled = None if start is None else 2 * start / half - 1
    return KspaceRun(given, options, plans, zero_filled)


def _settings(problem: ProblemOptions) -> dict[str, Any]:
    """The settings that have an effect on measured k-space."""
    said = [pair.partition("=")[0] for pair in problem.set]
    for name in said:
        if name in ("acceleration", "centre", "coils"):
            raise InputError(
                f"--set {name} does nothing with --maps: the file tells what was measured"
            )
    with as_input_error():
        chosen = settings(problem.set, PROBLEMS[problem.problem].settings, problem.problem)
    if "calibration" in said and problem.maps != "estimate":
        raise InputError("--set calibration does nothing with maps that are read from a file")
    if not _LEAST_REGION <= chosen["calibration"] <= 256:
        raise InputError(
            f"--set calibration takes a side from {_LEAST_REGION} to 256 samples, got "
            f"{chosen['calibration']}"
        )
    return {"calibration": chosen["calibration"]}


def _complex_kspace(given: Input, image: Path) -> Tensor:
    """The samples (N, coils, H, W), 0 where the file has no numbers."""
    if given.source is None or given.source.dtype.kind != "c":
        raise InputError(
            f"--maps takes complex k-space (coils, rows, columns), and {image} holds real numbers "
            f"({given.kind}); join its parts to complex numbers, or leave out --maps"
        )
    x = given.x
    if x.ndim != 4:
        shape = given.source.shape
        advice = "; say --select 0=: if its first axis is that of the slices"
        raise InputError(
            f"k-space is (coils, rows, columns), and {image} has the shape {shape}"
            + (advice if len(shape) == 4 else "")
        )
    return complex_of(torch.where(torch.isfinite(x), x, 0.0))


def _where(image: Path, given: Input, index: int) -> str:
    if given.stack is None or not given.is_stack:
        return str(image)
    return f"{image} at {slice_name(given.stack, index)}"


def _scan(
    kspace: Tensor,
    given: Input,
    image: Path,
    problem: ProblemOptions,
    calibration: int,
    names: list[str],
) -> _Scan:
    support = (kspace != 0).any(1)
    for name, one in zip(names, support, strict=True):
        if not bool(one.any()):
            raise InputError(f"nothing is measured in {name}: every sample of k-space is 0")
    stated, source = _stated_mask(image, problem, (kspace.shape[-2], kspace.shape[-1]))
    masks = support if stated is None else support & stated
    for name, one in zip(names, masks, strict=True):
        if not bool(one.any()):
            raise InputError(f"{source} leaves no sample of {name} that was measured")
    kspace = torch.where(masks[:, None], kspace, 0)
    maps: tuple[Tensor | None, ...]
    stored = None
    if problem.maps != "estimate":
        assert problem.maps is not None
        stored, maps = _read_maps(Path(problem.maps), kspace, given)
        words = "sensitivities of the file"
    elif kspace.shape[1] == 1:
        maps, words = (None,) * len(kspace), "one coil needs no sensitivities"
    else:
        sides = [_region(mask, calibration, name) for mask, name in zip(masks, names, strict=True)]
        with as_input_error():
            maps = tuple(espirit_maps(one, side) for one, side in zip(kspace, sides, strict=True))
        for name, one in zip(names, maps, strict=True):
            if one is not None and not bool((one != 0).any()):
                raise InputError(
                    f"no sensitivities can be estimated in {name}, where no pixel looks like "
                    "an object to the coils; --select other slices, or give --maps FILE"
                )
        words = f"sensitivities by ESPIRiT from the middle {min(sides)} x {min(sides)} samples"
    covariance = None
    if problem.noise_scan is not None:
        covariance = _covariance(problem.noise_scan, kspace.shape[1])
    return _Scan(kspace, masks, maps, words, stated, stored, covariance)


def _stated_mask(
    image: Path, problem: ProblemOptions, size: tuple[int, int]
) -> tuple[Tensor | None, str]:
    """The mask of the user, or that of the file, and its name."""
    if problem.mask is not None:
        mask = read_mask(
            problem.mask,
            size,
            problem.key,
            "observed",
            invert=problem.invert_mask,
            value=problem.mask_value,
        )
        return mask.bool(), f"the mask {problem.mask}"
    name = f"the dataset mask of {image}"
    with as_input_error():
        values = read_dataset(image, "mask") if source_format(image) == "HDF5" else None
    if values is None:
        return None, name
    if values.ndim not in (1, 2) or values.shape not in (size[-1:], size):
        raise InputError(
            f"{name} has the shape {values.shape}, and k-space has {size[0]} rows and {size[1]} "
            "columns; give another one as --mask FILE"
        )
    return torch.from_numpy(values != 0).expand(size), name


def _region(mask: Tensor, most: int, name: str) -> int:
    """Side of the largest middle of k-space that is measured completely."""
    height, width = mask.shape
    side = 0
    for n in range(1, most + 1):
        rows, columns = min(n, height), min(n, width)
        top, left = height // 2 - rows // 2, width // 2 - columns // 2
        if not bool(mask[top : top + rows, left : left + columns].all()):
            break
        side = n
    if side < min(_LEAST_REGION, height, width):
        raise InputError(
            f"no sensitivities can be estimated in {name}: only the middle {side} x {side} "
            f"samples of k-space are measured completely, and {_LEAST_REGION} x {_LEAST_REGION} "
            "are needed; give --maps FILE"
        )
    return side


def _read_complex(path: Path, option: str) -> np.ndarray:
    """A complex array of a file of any format."""
    with as_input_error():
        if source_format(path) is not None or path.suffix.lower() == ".npy":
            values = open_source(path).read()
        else:
            values = read_array_file(path, None, option)
    if values.dtype.kind != "c":
        raise InputError(f"{option} {path} must hold complex numbers, got {values.dtype}")
    if not np.isfinite(values).all():
        raise InputError(f"{option} {path} has values that are NaN or infinite")
    return values


def _read_maps(path: Path, kspace: Tensor, given: Input) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The sensitivities of the file, and those of each slice."""
    values = _read_complex(path, "--maps")
    n, wanted = len(kspace), tuple(kspace.shape[1:])
    places = [] if given.stack is None else [place[0] for place in given.stack.places if place]
    if values.shape[-3:] != wanted or values.ndim not in (3, 4):
        raise InputError(
            f"--maps {path} has the shape {values.shape}, and k-space has {wanted[0]} coils of "
            f"{wanted[1]} x {wanted[2]} samples"
        )
    maps = torch.from_numpy(values).to(kspace.dtype)
    if maps.ndim == 3:
        found = [maps] * n
    elif len(maps) == n:
        found = list(maps)
    elif len(places) == n and max(places) < len(maps):
        found = [maps[place] for place in places]
    else:
        raise InputError(
            f"--maps {path} has sensitivities of {len(maps)} slices, and {n} are restored; give "
            "those of these slices, of all slices of the file, or one set of (coils, rows, columns)"
        )
    if not all(bool((one != 0).any()) for one in found):
        raise InputError(f"--maps {path}: the sensitivities of a slice are all 0")
    return maps, tuple(found)


def _covariance(path: Path, coils: int) -> Tensor:
    values = _read_complex(path, "--noise-scan")
    while values.ndim > 2 and len(values) == 1:
        values = values[0]
    if values.ndim < 2 or len(values) != coils:
        raise InputError(
            f"--noise-scan {path} has the shape {values.shape}, and k-space has {coils} coils; "
            "it must be (coils, samples)"
        )
    with as_input_error(f"--noise-scan {path}"):
        covariance = coil_covariance(torch.from_numpy(values))
        prewhiten(torch.ones(coils, 1, dtype=covariance.dtype), covariance)
    return covariance


def _brightness(problem: ProblemOptions, given: Input, scan: _Scan) -> tuple[float, float, str]:
    """The range (-g, g) of real and imaginary parts, g the brightest magnitude."""
    said = given_range(problem)
    if said is not None:
        if not isinstance(said, tuple) or len(said) != 2 or said[0] != 0 or said == "file":
            raise InputError(
                "--range of a complex image is 0,HIGH, where HIGH is the brightest magnitude"
            )
        return -float(said[1]), float(said[1]), "as --range says, of real and imaginary part"
    assert given.source is not None
    stored = scan.stored
    if stored is not None and stored.ndim == 4 and not _covers(stored, given):
        pairs = zip(scan.kspace, scan.maps, strict=True)
        most = max(brightest(one, maps) for one, maps in pairs)
        return -most, most, f"{_RULE} in the slices that have sensitivities"

    def maps_at(place: tuple[int, ...]) -> Tensor | None:
        """The sensitivities of a slice of the file."""
        return stored if stored is None or stored.ndim == 3 else stored[place[0] if place else 0]

    most = file_brightness(given.source, problem.select, scan.stated, maps_at)
    return -most, most, f"{_RULE} in all slices of the file"


def _covers(maps: Tensor, given: Input) -> bool:
    """Whether maps (slices, coils, H, W) are those of all slices of the file, in its order."""
    assert given.source is not None
    shape = given.source.shape
    return len(shape) < 4 or len(maps) == shape[0]


def _real_range(problem: ProblemOptions, prior: str) -> tuple[float, float, str]:
    """Black and white of a real picture, whose phase the sensitivities hold."""
    said = given_range(problem)
    if problem.maps == "estimate" or not isinstance(said, tuple) or said == "file":
        raise InputError(
            f"the prior {prior!r} knows real pictures, and an image of coils has a phase; name a "
            "prior of two channels, real and imaginary part, or give both --maps FILE that hold "
            "the phase of the image, and --range LOW,HIGH of its values"
        )
    return float(said[0]), float(said[1]), "of the picture, as --range says"


def _noise(
    problem: ProblemOptions, options: RestoreOptions, operator: MRI, scan: _Scan, half: float
) -> Noise:
    if problem.photons is not None:
        raise InputError("--photons does nothing with --maps: the noise of coils is Gaussian")
    if scan.covariance is None:
        return build_noise(problem, options.stated_sigma, default_sigma(operator, False))
    if options.sigma is not None:
        raise InputError("--noise-scan tells the noise; leave out --sigma")
    return GaussianNoise(scan.level * math.sqrt(0.5) / half)
