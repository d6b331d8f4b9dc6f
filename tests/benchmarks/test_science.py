"""Parts of benchmarks/science.py whose answers are known."""

import pytest
import torch

from problems import attenuation_of
from tests.conftest import seeded


def test_coverage_of_few_exact_draws(script) -> None:
    parts = script("science_parts")
    draws = torch.randn(9, 200_000, generator=seeded(0))
    mean, std = draws[1:].mean(0), draws[1:].std(0)
    found = float(((draws[0] - mean).abs() <= 1.6449 * std).double().mean())
    assert found == pytest.approx(parts.exact_coverage(8), abs=4 * (0.14 / 200_000) ** 0.5)


def test_intervals_that_are_too_narrow_are_calibrated(script) -> None:
    """Draws with a third of the right spread; each picture is judged by the others."""
    parts = script("science_parts")
    n, pixels = 30, 400
    made = [
        parts.Restored(
            torch.randn(8, pixels, generator=seeded(k)) / 3,
            torch.randn(pixels, generator=seeded(100 + k)),
            0.0,
        )
        for k in range(n)
    ]
    found = parts.intervals(made, 10.0)
    assert found["raw"] < 0.5
    # 90 % is guaranteed; with 29 others the loss that they may have is 2 / 29, not 0.1
    expected = 1 - (n * 0.1 - 1) / (n - 1)
    assert found["calibrated"] == pytest.approx(expected, abs=0.01)
    assert found["calibrated width"] / found["raw width"] == pytest.approx(
        found["factor"] / 1.6449, rel=0.01
    )


def test_white_noise_of_the_coils(script) -> None:
    mri = script("science_mri")
    silence, other = mri.coil_noise((20_000,), seeded(0)), mri.coil_noise((20_000,), seeded(1))
    psi = mri.covariance()
    assert torch.allclose(psi, psi.mH)
    found = mri.coil_covariance(silence)
    assert float((found - psi).abs().max()) < 0.05 * float(psi.abs().max())
    white = mri.coil_covariance(mri.prewhiten(other, found))
    assert float((white - torch.eye(mri.COILS)).abs().max()) < 0.04


def test_a_scan_is_explained_by_its_image(script) -> None:
    """The residual of the true image is white noise of variance 1/2 in each part."""
    mri = script("science_mri")
    image = mri.head_phantoms(1, mri.SIDE, seeded(3))
    one = mri.scan(image, 4, seed=5)
    made = mri.prepare(one)
    assert one.mask.float().mean() == pytest.approx(0.25)
    # ESPIRiT finds the phase of the image and that of the maps together: take it from the data
    from problems import MRI, birdcage_maps, channels_of, prewhiten

    true = birdcage_maps(mri.COILS, mri.SIDE, mri.SIDE).to(torch.complex64)
    turn = (made.maps.conj() * true).sum(0)
    shown = mri.BRIGHT * image * turn / turn.abs().clamp_min(1e-6)
    x = channels_of(shown) / made.gain
    problem = made.problem
    residual = problem.residual(made.y, x)[..., one.mask]
    # what is left besides noise: where the maps are cut off and their own errors
    assert float(residual.square().mean()) == pytest.approx(0.5, rel=0.3)
    exact = MRI(one.mask, prewhiten(true, mri.coil_covariance(one.silence)), complex_image=True)
    residual = (made.y - exact.apply(channels_of(mri.BRIGHT * image)))[..., one.mask]
    assert float(residual.square().mean()) == pytest.approx(0.5, rel=0.03)


def test_rebinned_back_projection_is_in_place_and_in_units(script) -> None:
    """A disk of water off the middle, without noise: 0 HU inside, and its centre of mass."""
    ct = script("science_ct")
    place = (torch.arange(64) + 0.5) / 32 - 1
    inside = ((place[None] - 0.25) ** 2 + (place[:, None] + 0.3) ** 2 < 0.3**2).float()
    truth = (1000 * inside - 1000)[None, None]
    counts = ct.BRIGHT * (-ct.FAN.apply(attenuation_of(truth, ct.WATER))).exp()
    found = ct.filtered_back_projection(counts, ct.BRIGHT, "ramp")
    core = ((place[None] - 0.25) ** 2 + (place[:, None] + 0.3) ** 2 < 0.2**2)[None, None]
    # beams between the 2 degrees of `iradon` and the filter of 64 pixels: a per cent of water
    assert float(found[core].mean()) == pytest.approx(0, abs=20)
    weight = (found + 1000).clamp_min(300) - 300
    for axis, middle in ((-1, 0.25), (-2, -0.3)):
        shape = (64, 1) if axis == -2 else (64,)
        centre = float((weight * place.reshape(shape)).sum() / weight.sum())
        assert centre == pytest.approx(middle, abs=0.25 * 2 / 64)  # a quarter of a pixel


def test_the_stack_is_in_photons(script) -> None:
    microscope = script("science_microscope")
    y, truth = microscope.stack(4, 31)
    photons = microscope.photons_of(y)
    assert float(microscope.photons_of(truth).max()) == microscope.PEAK
    # the lens loses no light, and counts have their variance
    blurred = microscope.photons_of(microscope.LENS.apply(truth))
    ratio = (photons - blurred).square().mean() / (blurred.mean() + microscope.READ**2)
    assert float(ratio) == pytest.approx(1, abs=0.06)
    # Richardson-Lucy and Wiener return photons at the right places
    for method, value in ((microscope.by_richardson_lucy, 5), (microscope.by_wiener, 0.03)):
        found = method(y[0], value)
        error = (found - microscope.photons_of(truth[0])).square().mean()
        assert error < 0.7 * (photons[0] - microscope.photons_of(truth[0])).square().mean()
