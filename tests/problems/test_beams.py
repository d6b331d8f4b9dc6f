"""Computed tomography in millimetres against closed forms, scikit-image and scipy."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from skimage.transform import radon
from torch import Tensor

from problems import (
    CountNoise,
    FanBeam,
    InverseProblem,
    LogPoissonNoise,
    NonlinearFunction,
    ParallelBeam,
    Transmission,
    angles_between,
    attenuation_of,
    hounsfield_of,
    line_integrals,
)
from scoresde import GaussianPrior
from solvers import solve
from tests.conftest import F64, randn, seeded

ANGLES = (0.0, 10.0, 31.0, 45.0, 90.0, 117.0, 135.0, 170.0, 200.0, 271.0, -20.0)
FLAT = FanBeam(ANGLES, (120, 100), 0.5, 200.0, 100.0, 150, 0.7, offset=3.0)
ARC = FanBeam(ANGLES, (120, 100), 0.5, 200.0, 100.0, 150, 0.7, offset=3.0, arc=True)
PARALLEL = ParallelBeam(ANGLES, (120, 100), 0.5, 150, 0.4, offset=3.0)
CENTRE = (8.0, -5.0)  # of objects, in mm to the right and upwards


def pixels(shape: tuple[int, int], side: float, fine: int = 1) -> tuple[Tensor, Tensor]:
    """Positions x and y of the pixels in mm, or of fine x fine points in each."""

    def line(n: int) -> Tensor:
        return ((torch.arange(n * fine, dtype=F64) + 0.5) / fine - n / 2) * side

    return line(shape[1])[None], -line(shape[0])[:, None]


def distances(beam: FanBeam | ParallelBeam, centre: tuple[float, float]) -> np.ndarray:
    """Distance of every ray from a point, by trigonometry of its own, (angles, detectors)."""
    theta = np.radians(np.array(beam.angles))[:, None]
    t = (np.arange(beam.detectors) - (beam.detectors - 1) / 2) * beam.pitch + beam.offset
    along = centre[0] * np.cos(theta) + centre[1] * np.sin(theta)  # on the detector axis
    if isinstance(beam, ParallelBeam):
        return np.abs(t - along)
    depth = beam.source_distance - (-centre[0] * np.sin(theta) + centre[1] * np.cos(theta))
    span = beam.source_distance + beam.detector_distance
    gamma = t / span if beam.arc else np.arctan2(t, span)
    return np.abs(along * np.cos(gamma) - depth * np.sin(gamma))


BEAMS = {"fan": FLAT, "arc": ARC, "parallel": PARALLEL}


@pytest.mark.parametrize("name", BEAMS)
class TestClosedForms:
    def test_gaussian(self, name: str) -> None:
        """The integral of a Gaussian is sqrt(2 pi) s exp(-d^2 / (2 s^2)).

        Linear interpolation is off by at most h^2 / 8 times the second derivative across the ray's
        axis. Its absolute value, integrated along a ray, is at most (1 + 1/2 + 2/e) times
        sqrt(2 pi) / s, since a ray is at most 45 degrees off its axis.
        """
        beam, s = BEAMS[name], 3.0
        x, y = pixels(beam.shape, beam.pixel)
        image = torch.exp(-((x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2) / (2 * s**2))
        found = beam.apply(0.02 * image[None, None])[0, 0].numpy()
        d = distances(beam, CENTRE)
        expected = 0.02 * math.sqrt(2 * math.pi) * s * np.exp(-(d**2) / (2 * s**2))
        bound = 0.02 * beam.pixel**2 / 8 * (1.5 + 2 / math.e) * math.sqrt(2 * math.pi) / s
        cut = 0.02 * 50 * math.exp(-((25.0 - 8.0) ** 2) / (2 * s**2))  # at the edge of the image
        assert cut < 1e-3 * bound and bound < 0.01 * expected.max()
        assert float(np.abs(found - expected).max()) < bound + cut

    def test_disk(self, name: str) -> None:
        """Chords of a disk, to within two pixels of its radius.

        Pixels are averages over their area, so that a ray sums averages over at most two pixels on
        either side. The whole of that lies inside of the disk on the chord of a disk that is
        smaller by two pixels, and meets it on that of a larger one. A tenth of a pixel more is for
        the 8 x 8 points of a pixel that are counted.
        """
        beam, R, h, fine = BEAMS[name], 14.0, 0.5, 8
        x, y = pixels(beam.shape, h, fine)
        inside = ((x - CENTRE[0]) ** 2 + (y - CENTRE[1]) ** 2 < R**2).double()
        image = torch.nn.functional.avg_pool2d(inside[None, None], fine)
        found = beam.apply(0.02 * image)[0, 0].numpy() / 0.02
        d = distances(beam, CENTRE)

        def chord(radius: float) -> np.ndarray:
            return 2 * np.sqrt(np.clip(radius**2 - d**2, 0, None))

        assert (found > chord(R - 2.1 * h) - 1e-9).all()
        assert (found < chord(R + 2.1 * h) + 1e-9).all()
        met = d < 0.9 * R
        assert met.any(1).all() and found[met].mean() == pytest.approx(
            chord(R)[met].mean(), rel=2e-3
        )


class TestParallel:
    @pytest.mark.parametrize("size", [81, 65])
    def test_scikit_image(self, size: int) -> None:
        """``radon`` times the side of a pixel, within the interpolation errors of both.

        For a Gaussian of s pixels radon's, which interpolates along both axes, is at most
        (3 + 2/e) / (8 s^2) of the largest integral, ours (3/2 + 2/e) / (8 s^2).
        """
        s, h = size / 10, 0.8
        x, y = pixels((size, size), 1.0)
        image = torch.exp(-((x - 3.0) ** 2 + (y + 2.0) ** 2) / (2 * s**2))
        expected = radon(image.numpy(), theta=ANGLES, circle=False).T * h
        n = expected.shape[1]
        # the middle of radon is at n // 2, half a pixel beside that of an even number
        beam = ParallelBeam(ANGLES, (size, size), h, n, h, ((n - 1) / 2 - n // 2) * h)
        found = beam.apply(image[None, None])[0, 0].numpy()
        largest = h * math.sqrt(2 * math.pi) * s
        bound = (4.5 + 4 / math.e) / (8 * s**2) * largest
        assert float(np.abs(found - expected).max()) < bound < 0.02 * largest

    def test_right_angles_are_sums(self) -> None:
        """At 0 degrees rays run along columns, at 90 along rows, the lowest row first."""
        x = randn(1, 1, 6, 9)
        beam = ParallelBeam((0.0, 90.0), (6, 9), 0.5, 9, 0.5)
        columns, rows = beam.apply(x)[0, 0]
        torch.testing.assert_close(columns, 0.5 * x[0, 0].sum(0), atol=1e-12, rtol=0)
        fine = ParallelBeam((90.0,), (6, 9), 0.5, 6, 0.5).apply(x)[0, 0, 0]
        torch.testing.assert_close(fine.flip(0), 0.5 * x[0, 0].sum(1), atol=1e-12, rtol=0)
        assert rows.shape == (9,)

    @pytest.mark.parametrize("arc", [False, True])
    def test_is_a_fan_from_far_away(self, arc: bool) -> None:
        """Rays of a source at 1e8 mm spread by 1e-7 mm in a smooth object of 60 mm."""
        x, y = pixels((60, 50), 0.5)
        image = torch.exp(-(x**2 + y**2) / 50)[None, None]
        fan = FanBeam(ANGLES, (60, 50), 0.5, 1e8, 0.0, 70, 0.4, 1.0, arc=arc)
        parallel = ParallelBeam(ANGLES, (60, 50), 0.5, 70, 0.4, 1.0)
        torch.testing.assert_close(fan.apply(image), parallel.apply(image), atol=1e-5, rtol=0)


class TestFan:
    def test_opposite_views_see_the_same_central_ray(self) -> None:
        fan = FanBeam((20.0, 200.0), (30, 30), 1.0, 100.0, 50.0, 3, 5.0)
        first, second = fan.apply(randn(1, 1, 30, 30))[0, 0]
        assert float(first[1]) == pytest.approx(float(second[1]), abs=1e-10)

    def test_arc_and_line_agree_where_their_rays_do(self) -> None:
        x, angles = randn(1, 1, 20, 20), (0.0, 77.0)
        for t in (-20.0, 0.0, 30.0):
            line = FanBeam(angles, (20, 20), 1.0, 100.0, 50.0, 1, 1.0, t)
            arc = FanBeam(
                angles, (20, 20), 1.0, 100.0, 50.0, 1, 1.0, 150 * math.atan(t / 150), arc=True
            )
            torch.testing.assert_close(line.apply(x), arc.apply(x), atol=1e-10, rtol=0)

    def test_a_whole_turn_determines_the_image(self) -> None:
        """The pseudo-inverse of clean data gives the image back."""
        fan = FanBeam(angles_between(40, 0, 360), (8, 8), 1.0, 20.0, 20.0, 24, 1.0)
        x = randn(1, 1, 8, 8)
        torch.testing.assert_close(fan.pinv(fan.apply(x), rtol=1e-12), x, atol=1e-8, rtol=0)

    def test_angles_of_any_list(self) -> None:
        expected = ParallelBeam((0.0, 3.0), (4, 4), 1.0, 4, 1.0)
        for angles in ([0, 3], np.array([0.0, 3.0]), torch.tensor([0.0, 3.0])):
            assert repr(ParallelBeam(angles, (4, 4), 1.0, 4, 1.0)) == repr(expected)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"angles": ()}, "the angles must be a list"),
            ({"angles": (math.nan,)}, "each of the angles"),
            ({"pixel": 0.0}, "the side of a pixel must be positive"),
            ({"detectors": 0}, "the number of detectors"),
            ({"pitch": -1.0}, "the pitch of the detector must be positive"),
            ({"source_distance": 5.0}, "the source must lie outside of the image"),
            ({"detector_distance": -1.0}, "the distance of the detector must be at least 0"),
            ({"arc": True, "pitch": 500.0}, "more than 90"),
        ],
    )
    def test_errors(self, change: dict[str, object], message: str) -> None:
        settings: dict[str, object] = {
            "angles": (0.0,),
            "shape": (8, 8),
            "pixel": 1.0,
            "source_distance": 50.0,
            "detector_distance": 50.0,
            "detectors": 9,
            "pitch": 2.0,
        }
        with pytest.raises(ValueError, match=message):
            FanBeam(**(settings | change))  # type: ignore[arg-type]


class TestTransmission:
    BEAM = ParallelBeam(angles_between(5), (9, 8), 2.0, 12, 2.0)

    def test_counts_are_poisson(self) -> None:
        x = 0.02 * torch.rand(1, 1, 9, 8, generator=seeded(), dtype=F64)
        problem = InverseProblem(Transmission(500.0) @ self.BEAM, CountNoise())
        counts = problem.measure(x, seeded(1))
        law = scipy.stats.poisson(500 * np.exp(-self.BEAM.apply(x).numpy()))
        assert float(problem.log_likelihood(counts, x)) == pytest.approx(
            law.logpmf(counts.numpy()).sum(), rel=1e-12
        )

    def test_the_logarithm_has_the_same_likelihood(self) -> None:
        x = 0.02 * torch.rand(2, 1, 9, 8, generator=seeded(), dtype=F64)
        counted = InverseProblem(Transmission(500.0) @ self.BEAM, CountNoise())
        logged = InverseProblem(self.BEAM, LogPoissonNoise(500.0))
        counts = counted.measure(x, seeded(1))
        torch.testing.assert_close(
            counted.log_likelihood(counts, x),
            logged.log_likelihood(line_integrals(counts, 500.0), x),
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("solver", ["dps", "mmps"])
    def test_solvers_run_on_counts(self, solver: str) -> None:
        """Few angles tell most of what is unknown: the error falls to a third of the prior's."""
        prior = GaussianPrior(torch.zeros(1, 6, 6, dtype=F64), 0.25 * torch.eye(36, dtype=F64))
        fan = FanBeam(angles_between(12, 0, 360), (6, 6), 5.0, 60.0, 60.0, 14, 5.0)
        attenuation = NonlinearFunction(lambda x: 0.01 * (x + 1), (1, 6, 6))
        problem = InverseProblem(Transmission(1e6) @ fan @ attenuation, CountNoise())
        x = 0.5 * torch.randn(4, 1, 6, 6, generator=seeded(), dtype=F64)
        counts = problem.measure(x, seeded(1))
        mean = solve(prior, problem, counts, solver=solver, n=2, generator=seeded(2)).mean
        assert float((mean - x).norm()) < float(x.norm()) / 3

    def test_flat_field_and_background(self) -> None:
        flat = torch.tensor([100.0, 200.0], dtype=F64)
        p = torch.tensor([[[[0.0, 1.0]]]], dtype=F64)
        expected = torch.tensor([[[[105.0, 200 / math.e + 5]]]], dtype=F64)
        torch.testing.assert_close(Transmission(flat, 5.0).apply(p), expected)
        with pytest.raises(ValueError, match=r"photons of shape \(2,\) do not fit"):
            Transmission(flat).apply(torch.zeros(1, 1, 1, 3))

    def test_line_integrals_undo_it(self) -> None:
        p = torch.rand(1, 1, 3, 4, generator=seeded(), dtype=F64)
        torch.testing.assert_close(line_integrals(Transmission(1e4).apply(p), 1e4), p)
        none = line_integrals(torch.zeros(1, 3, dtype=torch.int64), 100.0)
        torch.testing.assert_close(none, torch.full((1, 3), math.log(200)))

    @pytest.mark.parametrize("bad", [-1.0, math.nan, math.inf])
    def test_impossible_counts_are_refused(self, bad: float) -> None:
        with pytest.raises(ValueError, match="counts of photons must be finite and at least 0"):
            line_integrals(torch.tensor([3.0, bad]), 10.0)

    @pytest.mark.parametrize("photons", [0.0, torch.tensor([1.0, 0.0]), math.nan])
    def test_impossible_photons_are_refused(self, photons: float | Tensor) -> None:
        for make in (
            lambda: Transmission(photons),
            lambda: line_integrals(torch.ones(2), photons),
        ):
            with pytest.raises(ValueError, match="photons must be"):
                make()

    def test_hounsfield_units(self) -> None:
        hu = torch.tensor([-1000.0, -700.0, 0.0, 60.0, 1000.0], dtype=F64)
        mu = attenuation_of(hu, 0.0193)
        expected = torch.tensor([0.0, 0.00579, 0.0193, 0.020458, 0.0386], dtype=F64)
        torch.testing.assert_close(mu, expected)
        torch.testing.assert_close(hounsfield_of(mu, 0.0193), hu, atol=1e-10, rtol=0)
        with pytest.raises(ValueError, match="the attenuation of water must be positive"):
            attenuation_of(hu, 0.0)


def test_many_rays_are_computed_anew_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same values, and their transpose."""
    operator = FanBeam(ANGLES, (12, 10), 5.0, 200.0, 100.0, 15, 7.0)
    x, y = randn(1, 1, 12, 10), randn(1, 1, len(ANGLES), 15)
    kept = operator.apply(x), operator.adjoint(y)
    monkeypatch.setattr("problems.operators.rays._KEPT", 100)
    monkeypatch.setattr("problems.operators.rays.SAMPLES", 15 * 12 * 2)  # two angles at a time
    other = FanBeam(ANGLES, (12, 10), 5.0, 200.0, 100.0, 15, 7.0)
    assert not isinstance(other._grids(x), list)
    for found, expected in zip((other.apply(x), other.adjoint(y)), kept, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
