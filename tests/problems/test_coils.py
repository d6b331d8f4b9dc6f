"""Coils of MRI: sensitivities against sigpy, white noise, and the convention of k-space."""

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import (
    MRI,
    GaussianNoise,
    InverseProblem,
    birdcage_maps,
    channels_of,
    coil_covariance,
    complex_of,
    espirit_maps,
    magnitude,
    prewhiten,
    root_sum_of_squares,
)
from tests.conftest import F64, randn

SIZE, COILS = (40, 36), 5


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Complex normal numbers of variance 1."""
    return torch.complex(randn(*shape, seed=seed), randn(*shape, seed=seed + 100)) / 2**0.5


def phantom() -> Tensor:
    """A disk of changing brightness and phase, complex, zero outside."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, SIZE[0], dtype=F64),
        torch.linspace(-1, 1, SIZE[1], dtype=F64),
        indexing="ij",
    )
    inside = (x / 0.7) ** 2 + (y / 0.8) ** 2 < 1
    return inside * (1 + 0.5 * (7 * x).cos() * (5 * y).sin()) * torch.exp(0.4j * x)


def measured(mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Phantom (H, W), true sensitivities and k-space (coils, H, W)."""
    x, maps = phantom(), birdcage_maps(COILS, *SIZE)
    operator = MRI(torch.ones(SIZE) if mask is None else mask, maps, complex_image=True)
    return x, maps, complex_of(operator.apply(channels_of(x[None, None])))[0]


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """|a* b| / |a| |b| of the coils at every pixel; 1 if they differ by a factor."""
    return (a.conj() * b).sum(0).abs() / (a.norm(dim=0) * b.norm(dim=0))


class TestConvention:
    @pytest.mark.slow
    @pytest.mark.parametrize("size", [(8, 8), (7, 10), (9, 5)])
    def test_k_space_is_that_of_sigpy(self, size: tuple[int, int]) -> None:
        """Centred and orthonormal, as in fastMRI and sigpy, for even and odd sides."""
        import sigpy

        z, maps = noise(2, 1, *size), noise(3, *size, seed=1)
        y = MRI(torch.ones(size), maps, complex_image=True).apply(channels_of(z))
        expected = sigpy.fft((z * maps).numpy(), axes=(-2, -1))
        np.testing.assert_allclose(complex_of(y), expected, atol=1e-13)

    def test_adjoint_is_the_combination_of_sigpy(self) -> None:
        import sigpy

        k, maps = noise(3, 7, 10), noise(3, 7, 10, seed=1)
        found = MRI(torch.ones(7, 10), maps, complex_image=True).adjoint(channels_of(k[None]))
        images = sigpy.ifft(k.numpy(), axes=(-2, -1))
        expected = (maps.numpy().conj() * images).sum(0)
        np.testing.assert_allclose(complex_of(found)[0, 0], expected, atol=1e-13)

    def test_channels(self) -> None:
        z = noise(2, 3, 4, 5)
        x = channels_of(z)
        assert x.shape == (2, 6, 4, 5) and torch.equal(x[:, 2], z[:, 1].real)
        assert torch.equal(complex_of(x), z) and torch.equal(magnitude(x), z.abs())
        for bad in (x[:, :5], z, x.long()):
            with pytest.raises(ValueError, match=r"real tensor \(B, 2 C, ...\)"):
                complex_of(bad)
        with pytest.raises(ValueError, match="a complex tensor"):
            channels_of(x)

    def test_root_sum_of_squares(self) -> None:
        """Sensitivities whose squares sum to 1 give the magnitude of the image."""
        x, maps, _ = measured()
        torch.testing.assert_close(root_sum_of_squares(maps * x), x.abs())
        torch.testing.assert_close(root_sum_of_squares((maps * x)[None], axis=1)[0], x.abs())

    def test_half_of_k_space_determines_a_real_image(self) -> None:
        """Partial Fourier: the other half is the complex conjugate of the first."""
        mask = torch.zeros(9, 8)
        mask[:5] = 1  # the middle row is 4
        x = randn(1, 1, 9, 8)
        operator = MRI(mask)
        torch.testing.assert_close(operator.pinv(operator.apply(x)), x, atol=1e-12, rtol=0)
        halves = MRI(mask, complex_image=True)
        z = randn(1, 2, 9, 8)
        assert float((halves.pinv(halves.apply(z)) - z).norm() / z.norm()) > 0.5


class TestEspirit:
    @pytest.mark.parametrize("level", [0.0, 1e-3])
    def test_agrees_with_sigpy(self, level: float) -> None:
        """Up to a phase at each pixel.

        300 steps of sigpy's power iteration leave the ratio of eigenvalues to this power of other
        eigenvectors, 0.95^300 = 2e-7 for a second one of 0.95. The overlap misses its square.
        """
        from sigpy.mri.app import EspiritCalib

        x, _, k = measured()
        k = k + level * noise(*k.shape)
        ours = espirit_maps(k, calibration=20, kernel=5)
        theirs = torch.from_numpy(
            EspiritCalib(
                k.numpy(), calib_width=20, kernel_width=5, max_iter=300, show_pbar=False
            ).run()
        )
        seen, also = ours.abs().sum(0) > 0, theirs.abs().sum(0) > 0
        assert int((seen != also).sum()) <= 2  # eigenvalues at the threshold
        both = seen & also
        assert bool(both[x.abs() > 0].all())
        assert float((1 - overlap(ours, theirs)[both]).max()) < 1e-12
        torch.testing.assert_close(
            ours.norm(dim=0)[both], torch.ones(int(both.sum()), dtype=F64), atol=1e-12, rtol=0
        )

    def test_finds_the_true_sensitivities(self) -> None:
        """Sines of the angles to the true ones, largest at the edge of the object.

        Birdcage coils are no sums of a few waves, so that the model is not exact. Measured: 0.010
        at most, 0.0018 in the median.
        """
        x, maps, k = measured()
        inside = x.abs() > 0
        error = (1 - overlap(espirit_maps(k), maps)[inside]).clamp_min(0).sqrt()
        assert float(error.max()) < 0.02 and float(error.median()) < 0.004

    def test_undersampled_k_space_gives_the_same_maps(self) -> None:
        """Only the middle is used."""
        mask = torch.zeros(SIZE, dtype=torch.bool)
        mask[::3] = True
        mask[8:32, 6:30] = True
        torch.testing.assert_close(
            espirit_maps(measured(mask)[2]), espirit_maps(measured()[2]), atol=1e-12, rtol=0
        )

    def test_restores_an_image(self) -> None:
        """SENSE with estimated sensitivities, a third of the lines, without noise."""
        mask = torch.zeros(SIZE, dtype=torch.bool)
        mask[::3] = True
        mask[8:32] = True
        x, _, k = measured(mask)
        maps = espirit_maps(k, crop=0.0)
        found = MRI(mask, maps, complex_image=True).prox(
            torch.zeros(1, 2, *SIZE, dtype=F64), channels_of(k[None]), 1e-5, 1.0
        )
        error = magnitude(found)[0, 0] - x.abs()
        assert float(error.norm() / x.norm()) < 0.03

    def test_phase_does_not_depend_on_the_phase_of_the_scan(self) -> None:
        k = measured()[2]
        torch.testing.assert_close(espirit_maps(1j * k), espirit_maps(k), atol=1e-9, rtol=0)

    @pytest.mark.slow
    def test_volumes(self) -> None:
        """Three axes, against sigpy again."""
        from sigpy.mri.app import EspiritCalib

        shape = (9, 14, 12)
        z, y, x = torch.meshgrid(
            *(torch.linspace(-1, 1, n, dtype=F64) for n in shape), indexing="ij"
        )
        image = (x**2 + y**2 + z**2 < 0.8) * (1.5 + (4 * z + 3 * x).sin())
        maps = torch.stack([1 + 0.5 * x + 0.3j * z, 1 - 0.4 * y + 0.2j * x, 0.8 + 0.5j * z * y])
        operator = MRI(torch.ones(shape), maps)
        k = complex_of(operator.apply(image[None, None]))[0]
        ours = espirit_maps(k, calibration=9, kernel=3)
        theirs = torch.from_numpy(
            EspiritCalib(
                k.numpy(), calib_width=9, kernel_width=3, max_iter=2000, show_pbar=False
            ).run()
        )
        both = (ours.abs().sum(0) > 0) & (theirs.abs().sum(0) > 0)
        assert int(both.sum()) > 300
        assert float((1 - overlap(ours, theirs)[both]).max()) < 1e-12

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: espirit_maps(torch.zeros(3, 8, 8)), "must be complex"),
            (lambda: espirit_maps(noise(3, 8)), r"\(coils, H, W\) or \(coils, D, H, W\)"),
            (
                lambda: espirit_maps(noise(3, 8, 8), kernel=9),
                "a whole number of at most 8",
            ),
            (lambda: espirit_maps(noise(3, 8, 8), crop=1.0), "eigenvalues must be below 1"),
            (lambda: espirit_maps(noise(3, 8, 8) * torch.eye(8)), "must all be measured"),
            (lambda: espirit_maps(noise(3, 8, 8) * torch.nan), "must be finite"),
        ],
    )
    def test_errors(self, make: object, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make()  # type: ignore[operator]


class TestPrewhitening:
    MIX = noise(4, 4, seed=9) + 2 * torch.eye(4)

    def test_covariance_of_a_scan(self) -> None:
        """Within 5 standard errors, sqrt(C_ii C_jj / n), of the true one."""
        n = 20_000
        found = coil_covariance(self.MIX @ noise(4, n))
        true = self.MIX @ self.MIX.mH
        variance = true.diagonal().real
        assert bool(((found - true).abs() < 5 * (variance[:, None] * variance / n).sqrt()).all())

    def test_the_scan_itself_becomes_white(self) -> None:
        scan = self.MIX @ noise(4, 300)
        white = prewhiten(scan.reshape(4, 20, 15), coil_covariance(scan))
        torch.testing.assert_close(
            coil_covariance(white), torch.eye(4, dtype=torch.complex128), atol=1e-12, rtol=0
        )

    def test_the_likelihood_is_that_of_correlated_noise(self) -> None:
        """Up to the determinant: -|L^-1 (y - S F x)|^2 is the exponent of the covariance."""
        covariance = self.MIX @ self.MIX.mH
        maps, size = noise(4, 6, 5, seed=3), (6, 5)
        x = randn(2, 2, *size)
        plain = MRI(torch.ones(size), maps, complex_image=True)
        white = MRI(torch.ones(size), prewhiten(maps, covariance), complex_image=True)
        noisy = torch.einsum("ij,jhw->ihw", self.MIX, noise(4, *size, seed=4))
        k = complex_of(plain.apply(x[:1]))[0] + noisy
        problem = InverseProblem(white, GaussianNoise(0.5**0.5))
        found = problem.log_likelihood(channels_of(prewhiten(k, covariance)[None]), x)
        error = (k - complex_of(plain.apply(x))).flatten(2)
        exponent = torch.einsum(
            "bin,ij,bjn->b", error.conj(), torch.linalg.inv(covariance), error
        ).real
        torch.testing.assert_close(found[0] - found[1], exponent[1] - exponent[0])

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: coil_covariance(noise(4, 4)), "more samples than coils"),
            (lambda: coil_covariance(randn(4, 9)), "must be complex"),
            (lambda: prewhiten(noise(4, 9), torch.eye(3)), r"shape \(4, 4\)"),
            (lambda: prewhiten(noise(2, 9), torch.zeros(2, 2)), "not positive definite"),
        ],
    )
    def test_errors(self, make: object, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make()  # type: ignore[operator]
