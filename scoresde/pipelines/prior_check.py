"""From the name of a prior to a check of it: samples, sizes, speed and memory."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scoresde.data.datasets import list_images, read_pixels
from scoresde.data.images import from_bytes
from scoresde.errors import InputError, as_input_error
from scoresde.evaluation.prior_check import Denoiser, check_prior
from scoresde.priors.base import Prior
from solvers import SAMPLERS
from solvers.verification.memory import rise

__all__ = ["accepted_sizes", "look_over", "samples_like"]

_FEWEST, _MOST, _VALUES = 16, 512, 50_000
"""Samples of a check: at least and at most, and how many values they should have together."""

_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
"""Colour photographs that come with scikit-image (public domain or CC0)."""

_SMALL = 64
"""Side of a picture from which on a prior of grey pictures is taken for one of photographs."""


def look_over(
    prior: Prior,
    *,
    images: Path | None = None,
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Check a prior with samples like its data.

    Args:
        prior: Prior to check.
        images: Folder of pictures like those of its training; None for photographs that come with
            the package, or draws of the prior, see :func:`samples_like`.
        seed: Seed of the random numbers.
        progress: Called with the finished fraction of the work.

    Returns:
        The report: "findings", one line each, and their "kinds"; "levels", a row for each noise
        level; "samples", "shape", "count" and "notes" on them; "sizes", those that it takes;
        "seconds_per_megapixel" of one evaluation; "megabytes" that an evaluation with gradients of
        one sample takes, None where the system does not say.

    Raises:
        InputError: If the pictures cannot be read or do not suit the prior.
    """
    megabytes = _memory(prior, seed)  # first, while the allocator holds little
    with as_input_error():
        samples, source, notes = samples_like(prior, images, seed)
        result = check_prior(prior, samples, seed=seed, progress=progress)
    return {
        "format": "scoresde.check-prior-report/1",
        "findings": [one.text for one in result.findings],
        "kinds": [one.kind for one in result.findings],
        "levels": result.rows(),
        "samples": source,
        "shape": list(prior.shape),
        "count": len(samples),
        "notes": notes,
        "sizes": accepted_sizes(prior),
        "seconds_per_megapixel": _seconds(prior, samples[:4]),
        "megabytes": megabytes,
        "seed": seed,
    }


def samples_like(prior: Prior, images: Path | None, seed: int) -> tuple[Tensor, str, list[str]]:
    """Collect samples for a check.

    Args:
        prior: Prior whose shape they have.
        images: Folder of pictures; None for photographs of the package if the prior is one of
            pictures with 3 channels, or of grey ones with sides of at least 64 pixels, and for
            draws of the prior if not.
        seed: Seed of the crops or of the draws.

    Returns:
        Samples (N, ...), where they come from, and notes for the user.

    Raises:
        InputError: If the pictures cannot be read, are too small, or the prior is not one of
            pictures.
    """
    shape = prior.shape
    count = max(_FEWEST, min(_MOST, _VALUES // torch.Size(shape).numel()))
    generator = torch.Generator().manual_seed(seed)
    pictures = len(shape) == 3 and shape[0] in (1, 3)
    if images is not None:
        if not pictures:
            raise InputError(
                f"--images are pictures with 1 or 3 channels, the prior has samples of shape "
                f"{tuple(shape)}; leave --images out"
            )
        paths = list_images(images)
        order = torch.randperm(len(paths), generator=generator)[:count].tolist()
        read = [from_bytes(_pixels(paths[i], shape[0])) for i in order]
        return _crops(read, count, shape, generator, str(images)), f"pictures of {images}", []
    if pictures and (shape[0] == 3 or min(shape[1:]) >= _SMALL):
        import skimage.data  # slow to import

        read = []
        for name in _PHOTOGRAPHS:
            x = from_bytes(torch.from_numpy(getattr(skimage.data, name)()).permute(2, 0, 1))
            x = x.mean(0, keepdim=True) if shape[0] == 1 else x
            # small pictures are thumbnails of scenes, not details
            read.append(torch.nn.functional.avg_pool2d(x, 4) if min(shape[1:]) < _SMALL else x)
        note = "the samples are photographs; if the prior is for other pictures, give --images"
        crops = _crops(read, count, shape, generator, "the photographs of scikit-image")
        return crops, "photographs of scikit-image", [note]
    if hasattr(prior, "sample"):
        return prior.sample(count, generator), "exact draws of the prior", []  # type: ignore[operator]
    draws = SAMPLERS["heun"](None).sample(prior, count, generator=generator)
    note = (
        "the samples are draws of the prior itself, so an error in the range of its values cannot "
        "be seen; give --images of its training data if there are any"
    )
    return draws, "draws of the prior", [note]


def _pixels(path: Path, channels: int) -> Tensor:
    """(C, H, W), uint8."""
    return torch.from_numpy(read_pixels(path, channels).copy()).permute(2, 0, 1)


def _crops(
    pictures: list[Tensor],
    count: int,
    shape: tuple[int, ...],
    generator: torch.Generator,
    source: str,
) -> Tensor:
    """Random crops, the same number of each picture."""
    height, width = shape[1:]
    crops = []
    for i in range(count):
        x = pictures[i % len(pictures)]
        rooms = x.shape[1] - height, x.shape[2] - width
        if min(rooms) < 0:
            raise InputError(
                f"the prior has samples of {width}x{height} pixels, a picture of {source} has "
                f"{x.shape[2]}x{x.shape[1]}; give --images of at least that size"
            )
        top, left = (int(torch.randint(room + 1, (), generator=generator)) for room in rooms)
        crops.append(x[:, top : top + height, left : left + width])
    return torch.stack(crops)


def accepted_sizes(prior: Prior) -> str:
    """Find out which sizes a prior takes, by trying.

    Args:
        prior: Prior of any samples.

    Returns:
        "any", "multiples of 8", or "64x64 alone", in words.

    Example:
        >>> import torch
        >>> from scoresde import GaussianPrior
        >>> accepted_sizes(GaussianPrior(torch.zeros(2), torch.eye(2)))
        'vectors of 2 entries'
    """
    channels, *axes = prior.shape
    if not axes:
        return f"vectors of {channels} entries"
    for step in (1, 2, 4, 8, 16, 32, 64):
        longer = [step * (side // step + 1) for side in axes]
        if all(_takes(prior, (channels, *some)) for some in (longer, [longer[0], *axes[1:]])):
            return "any" if step == 1 else f"sides that are multiples of {step}"
    return f"{'x'.join(map(str, axes))} alone"


def _takes(prior: Prior, shape: tuple[int, ...]) -> bool:
    if not prior.accepts(shape):
        return False
    x = torch.zeros(1, *shape, dtype=prior.dtype, device=prior.device)
    try:
        with torch.no_grad():
            return Denoiser(prior)(x, _middle(prior)).shape == x.shape
    except (RuntimeError, ValueError, AssertionError):
        return False


def _middle(prior: Prior) -> float:
    """A noise level well within those of the prior."""
    low, high = Denoiser(prior).ends()
    return float((low * min(high, 1e4)) ** 0.5)


def _seconds(prior: Prior, samples: Tensor) -> float:
    """Seconds of an evaluation for a million pixels (entries of one channel)."""
    denoiser, s = Denoiser(prior), _middle(prior)
    x = samples.to(device=prior.device, dtype=prior.dtype)
    times = []
    with torch.no_grad():
        for _ in range(3):
            start = time.perf_counter()
            denoiser(x, s).sum().item()  # waits for a GPU
            times.append(time.perf_counter() - start)
    return min(times) / (x[:, 0].numel() / 1e6)


def _memory(prior: Prior, seed: int) -> float | None:
    """Megabytes of one evaluation with gradients of one sample; None if unknown."""
    x = torch.randn(1, *prior.shape, generator=torch.Generator().manual_seed(seed))
    x = x.to(device=prior.device, dtype=prior.dtype).requires_grad_()

    def work() -> None:
        D = Denoiser(prior)(x, _middle(prior))
        if D.requires_grad:
            torch.autograd.grad(D.sum(), x)

    if x.device.type == "cuda":
        before = torch.cuda.memory_allocated(x.device)
        torch.cuda.reset_peak_memory_stats(x.device)
        work()
        return (torch.cuda.max_memory_allocated(x.device) - before) / 1e6
    found = rise(work) / 1e6
    return found if found == found else None
