"""Beams in millimetres against the CPU projectors of the ASTRA toolbox, an optional library."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from problems import FanBeam, ParallelBeam, angles_between
from tests.conftest import F64, randn
from tests.problems.test_beams import CENTRE, FLAT, PARALLEL, pixels

SINGLE = float(np.finfo(np.float32).eps)  # ASTRA computes in single precision


def volume(beam: Any, fine: int = 1) -> dict[str, Any]:
    """The grid of pixels in mm, or one that is finer by a factor."""
    import astra

    height, width = beam.shape
    x, y = width * beam.pixel / 2, height * beam.pixel / 2
    return astra.create_vol_geom(height * fine, width * fine, -x, x, -y, y)


def geometry(beam: Any) -> dict[str, Any]:
    """The rays, by vectors: of the ray or the source, the detector's middle, and one pitch."""
    import astra

    theta = np.radians(np.array(beam.angles))
    u = np.stack([np.cos(theta), np.sin(theta)], 1)
    ray = np.stack([np.sin(theta), -np.cos(theta)], 1)
    if isinstance(beam, ParallelBeam):
        vectors = np.concatenate([ray, beam.offset * u, beam.pitch * u], 1)
        return astra.create_proj_geom("parallel_vec", beam.detectors, vectors)
    middle = beam.detector_distance * ray + beam.offset * u
    vectors = np.concatenate([-beam.source_distance * ray, middle, beam.pitch * u], 1)
    return astra.create_proj_geom("fanflat_vec", beam.detectors, vectors)


@contextmanager
def projector(kind: str, beam: Any, fine: int = 1) -> Iterator[Any]:
    import astra

    made = astra.create_projector(kind, geometry(beam), volume(beam, fine))
    try:
        yield made
    finally:
        astra.projector.delete(made)


def astra_sinogram(kind: str, beam: Any, image: np.ndarray, fine: int = 1) -> np.ndarray:
    import astra

    with projector(kind, beam, fine) as made:
        number, found = astra.create_sino(image.astype(np.float32), made)
        astra.data2d.delete(number)
    return found


def gaussian(beam: Any, s: float, fine: int = 1) -> torch.Tensor:
    x, y = pixels(beam.shape, beam.pixel, fine)
    return torch.exp(-((x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2) / (2 * s**2))


def test_joseph_is_joseph() -> None:
    """The same rule for parallel rays: equal for every image, up to single precision.

    A ray has at most 170 samples with weights up to 0.5 sqrt(2) mm, and the places of the samples
    are rounded, relative to 120 pixels. Every sample is off by at most 120 eps times the largest
    difference of neighbours, and their sum by a few eps.
    """
    image = randn(1, 1, *PARALLEL.shape)[:, :, 1:-1, 1:-1]
    image = torch.nn.functional.pad(image, (1, 1, 1, 1))  # the rules differ beyond the last pixels
    found = PARALLEL.apply(image)[0, 0].numpy()
    expected = astra_sinogram("linear", PARALLEL, image[0, 0].numpy())
    largest, samples = float(image.abs().max()), 170 * 0.5 * math.sqrt(2)
    assert float(np.abs(found - expected).max()) < samples * 2 * largest * 120 * SINGLE


@pytest.mark.parametrize(
    ("kind", "beam"),
    [("line", PARALLEL), ("line_fanflat", FLAT)],
    ids=["parallel", "fan"],
)
def test_line_of_finer_pixels(kind: str, beam: ParallelBeam | FanBeam) -> None:
    """A ray's lengths in the pixels of a grid that is eight times finer.

    In a pixel of side h a constant is off from a smooth image by at most h / sqrt(2) times its
    slope, whose integral along a ray is at most 2 for a Gaussian. Linear interpolation between the
    coarse pixels is off as in :class:`tests.problems.test_beams.TestClosedForms`.
    """
    s, fine = 3.0, 8
    found = beam.apply(gaussian(beam, s)[None, None])[0, 0].numpy()
    expected = astra_sinogram(kind, beam, gaussian(beam, s, fine).numpy(), fine)
    theirs = beam.pixel / fine / math.sqrt(2) * 2
    ours = beam.pixel**2 / 8 * (1.5 + 2 / math.e) * math.sqrt(2 * math.pi) / s
    edge = 50 * math.exp(-((25.0 - 8.0) ** 2) / (2 * s**2))
    largest = math.sqrt(2 * math.pi) * s
    assert theirs + ours < 0.025 * largest
    assert float(np.abs(found - expected).max()) < theirs + ours + edge + 1e3 * SINGLE * largest


@pytest.mark.slow
def test_filtered_back_projection() -> None:
    """ASTRA's filtered back-projection of our sinogram is the attenuation in 1/mm.

    ASTRA spreads the filtered projections as strips of the pitch p, averaged over the pixels they
    cross. Of a Gaussian of height a and width s the ramp leaves projections q with

    |q'| <= a / sqrt(2 pi) / s and |q''| <= 2 a / (pi s^2),

    the integrals of |2 pi f|^n |f| over their spectrum 2 pi a s^2 exp(-2 (pi s f)^2). Over half a
    turn, strips cost pi p / 2 |q'| at most, and the average over a pixel of side h, whose variance
    is h^2 / 12 in every direction, pi h^2 / 24 |q''|. Joseph's interpolation is one with a triangle
    of variance h^2 / 6, at most, along one axis, which takes h^2 / (12 s^2) off the height.
    """
    import astra

    s, a = 3.0, 0.02
    beam = ParallelBeam(angles_between(180), (100, 100), 0.5, 1000, 0.1)
    x, y = pixels(beam.shape, beam.pixel)
    image = a * torch.exp(-((x - 4.0) ** 2 + (y + 2.0) ** 2) / (2 * s**2))
    sinogram = beam.apply(image[None, None].to(F64))[0, 0].numpy().astype(np.float32)
    rays = astra.create_proj_geom(
        "parallel", beam.pitch, beam.detectors, np.radians(np.array(beam.angles))
    )
    grid = volume(beam)
    made = astra.create_projector("strip", rays, grid)
    data = astra.data2d.create("-sino", rays, sinogram)
    result = astra.data2d.create("-vol", grid)
    settings = astra.astra_dict("FBP")
    settings |= {"ProjectorId": made, "ProjectionDataId": data, "ReconstructionDataId": result}
    algorithm = astra.algorithm.create(settings)
    astra.algorithm.run(algorithm)
    found = astra.data2d.get(result)
    astra.algorithm.delete(algorithm)
    astra.data2d.delete([data, result])
    astra.projector.delete(made)
    strips = a * beam.pitch * math.sqrt(math.pi / 8) / s
    bound = strips + a * beam.pixel**2 / 6 / s**2
    assert float(np.abs(found - image.numpy()).max()) < bound < 0.03 * a
