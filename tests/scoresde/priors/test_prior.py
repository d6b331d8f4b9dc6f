"""Preconditioning, change of SDE, counting, and the UNet on images of any size."""

import math

import pytest
import torch
from torch import Tensor, nn

from scoresde import (
    EDMSDE,
    SDE,
    VPSDE,
    CountingPrior,
    FlowMatchingSDE,
    GaussianPrior,
    Prior,
    ScorePrior,
)
from scoresde.networks import UNet, UNetConfig
from tests.conftest import seeded
from tests.laws import each_of_three_sdes

LEVELS = [0.02, 0.3, 1.0, 5.0, 40.0]


class Zero(nn.Module):
    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        return torch.zeros_like(x)


class Toy(nn.Module):
    """A smooth function of image and label with one parameter, which records its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.7, dtype=torch.float64))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.seen.append((x, label))
        return torch.tanh(self.gain * x + label[:, None, None, None]) + x.roll(1, -1)


def images(n: int = 4, *, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, 8, 8, generator=seeded(seed), dtype=torch.float64)


def time_of(sde: SDE, ratio: float, n: int = 4) -> Tensor:
    return sde.t_from_noise_to_signal(torch.full((n,), ratio, dtype=torch.float64))


class TestPreconditioning:
    @each_of_three_sdes
    @pytest.mark.parametrize("level", LEVELS)
    @pytest.mark.parametrize("sigma_data", [0.5, 2.0])
    def test_of_a_network_that_says_nothing(
        self, sde: SDE, level: float, sigma_data: float
    ) -> None:
        """With F = 0, D = c_skip x / alpha.

        This is the best linear denoiser of data with standard deviation sigma_data.
        """
        t = time_of(sde, level)
        answer = ScorePrior(Zero(), sde, (3, 8, 8), sigma_data).denoise(images(), t)
        u = images() / sde.alpha(t)[:, None, None, None]
        torch.testing.assert_close(
            answer, sigma_data**2 / (level**2 + sigma_data**2) * u, rtol=1e-10, atol=1e-13
        )

    @each_of_three_sdes
    def test_a_network_that_says_nothing_is_exact_on_gaussian_data(self, sde: SDE) -> None:
        x, t = images(), torch.tensor([0.02, 0.1, 0.5, 1.0], dtype=torch.float64)
        white = GaussianPrior(torch.zeros(3, 8, 8), 0.25 * torch.eye(192), sde)
        prior = ScorePrior(Zero(), sde, (3, 8, 8), sigma_data=0.5)
        torch.testing.assert_close(prior.denoise(x, t), white.denoise(x, t), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(prior.score(x, t), white.score(x, t), rtol=1e-10, atol=1e-9)

    @pytest.mark.parametrize("level", LEVELS)
    def test_input_and_target_have_unit_variance(self, level: float) -> None:
        """Input and target have unit variance on Gaussian data.

        A sample variance of n normal numbers has standard error sqrt(2/n); 5 are allowed.
        """
        n, sigma_data = 50_000, 0.4
        x_0, noise = torch.randn(2, n, generator=seeded(), dtype=torch.float64)
        x = sigma_data * x_0 + level * noise
        prior = ScorePrior(Zero(), EDMSDE(), (1,), sigma_data)
        c_skip, c_out, c_in = prior.preconditioning(torch.tensor(level, dtype=torch.float64))
        for quantity in (c_in * x, (sigma_data * x_0 - c_skip * x) / c_out):
            assert abs(float(quantity.square().mean()) - 1) < 5 * math.sqrt(2 / n)

    def test_the_network_sees_scaled_images_and_a_quarter_of_the_log_level(self) -> None:
        network = Toy()
        t = torch.tensor([0.1, 0.5, 2.0, 30.0], dtype=torch.float64)
        prior = ScorePrior(network, EDMSDE(), (3, 8, 8))
        prior.denoise(images(), t)
        seen, label = network.seen[0]
        torch.testing.assert_close(
            seen, images() / (t**2 + 0.25).sqrt()[:, None, None, None], rtol=1e-12, atol=0
        )
        torch.testing.assert_close(label, t.log() / 4, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("sigma_data", [0.0, -1.0, float("nan")])
    def test_sigma_data_must_be_positive(self, sigma_data: float) -> None:
        with pytest.raises(ValueError, match="sigma_data"):
            ScorePrior(Zero(), EDMSDE(), (1,), sigma_data)

    def test_autocast_touches_only_the_network(self) -> None:
        """Only the network computes in bfloat16; its output and the rest keep the image's type."""
        seen: list[torch.dtype] = []

        class Spy(nn.Linear):
            def forward(self, x: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
                out = super().forward(x)
                seen.append(out.dtype)
                return out

        prior = ScorePrior(Spy(4, 4), EDMSDE(), (4,), autocast=torch.bfloat16)
        assert prior.denoise(torch.randn(2, 4, generator=seeded()), 1.0).dtype == torch.float32
        assert seen == [torch.bfloat16]


class TestPrior:
    @each_of_three_sdes
    @pytest.mark.parametrize("level", [0.05, 0.5, 3.0])
    def test_another_sde_answers_the_same_at_equal_noise_to_signal(
        self, sde: SDE, level: float
    ) -> None:
        edm = ScorePrior(Toy(), EDMSDE(), (3, 8, 8))
        other = edm.with_sde(sde)
        t = time_of(sde, level)
        scaled = images() * sde.alpha(t)[:, None, None, None]
        torch.testing.assert_close(
            other.denoise(scaled, t), edm.denoise(images(), level), rtol=1e-9, atol=1e-12
        )
        # p_t of alpha u has the gradient of the EDM's marginal at u, divided by alpha
        expected = edm.score(images(), level) / sde.alpha(t)[:, None, None, None]
        torch.testing.assert_close(other.score(scaled, t), expected, rtol=1e-9, atol=1e-9)

    def test_with_sde_shares_parameters_and_leaves_the_original(self) -> None:
        edm = ScorePrior(Toy(), EDMSDE(), (3, 8, 8), card={"name": "toy"})
        vp = edm.with_sde(VPSDE())
        assert edm.sde == EDMSDE() and vp.sde == VPSDE()
        assert type(vp) is ScorePrior and vp.shape == edm.shape and vp.card == edm.card
        assert next(vp.parameters()) is next(edm.parameters())

    @each_of_three_sdes
    def test_score_is_tweedie(self, sde: SDE) -> None:
        prior, t = ScorePrior(Toy(), sde, (3, 8, 8)), time_of(sde, 0.5)
        alpha, sigma = (c[:, None, None, None] for c in (sde.alpha(t), sde.sigma(t)))
        expected = (alpha * prior.denoise(images(), t) - images()) / sigma**2
        torch.testing.assert_close(prior.score(images(), t), expected, rtol=1e-12, atol=1e-12)

    def test_time_as_a_number_a_scalar_and_a_batch(self) -> None:
        prior = ScorePrior(Toy(), EDMSDE(), (3, 8, 8))
        expected = prior.denoise(images(), torch.full((4,), 0.5, dtype=torch.float64))
        assert torch.equal(prior.denoise(images(), 0.5), expected)
        assert torch.equal(prior.denoise(images(), torch.tensor(0.5)), expected)
        assert torch.equal(prior(images(), 0.5), expected)

    def test_a_prior_of_single_precision_takes_images_of_double(self) -> None:
        """Samplers that integrate in float64 need results from networks in float32."""
        prior = ScorePrior(perturbed_unet(), EDMSDE(), (3, 8, 8))
        answer = prior.denoise(images(), 0.5)
        assert answer.dtype == torch.float64
        torch.testing.assert_close(
            answer.float(), prior.denoise(images().float(), 0.5), rtol=1e-5, atol=1e-5
        )

    def test_device_and_type(self) -> None:
        assert ScorePrior(Zero(), EDMSDE(), (1,)).dtype == torch.float32
        assert ScorePrior(Toy(), EDMSDE(), (1,)).dtype == torch.float64
        assert ScorePrior(Toy(), EDMSDE(), (1,)).device == torch.device("cpu")


class TestCounted:
    def test_counts_calls_on_batches(self) -> None:
        prior = ScorePrior(Toy(), EDMSDE(), (3, 8, 8))
        counted = CountingPrior(prior)
        assert isinstance(counted, Prior) and counted.nfe == 0
        assert (
            counted.sde == prior.sde
            and counted.shape == prior.shape
            and counted.dtype == torch.float64
        )
        assert torch.equal(counted.denoise(images(), 0.5), prior.denoise(images(), 0.5))
        assert torch.equal(counted.score(images(1), 0.5), prior.score(images(1), 0.5))
        assert counted.nfe == 2

    def test_follows_a_change_of_sde(self) -> None:
        prior, t = ScorePrior(Toy(), EDMSDE(), (3, 8, 8)), 0.5
        counted = CountingPrior(prior).with_sde(VPSDE())
        assert torch.equal(
            counted.denoise(images(), t), prior.with_sde(VPSDE()).denoise(images(), t)
        )
        assert counted.nfe == 1 and prior.sde == EDMSDE()


# two heads of attention
SMALL = UNetConfig(channels=3, patch=2, widths=(8, 64), blocks=1, attention=(1,), embedding=16)


def perturbed_unet(config: UNetConfig = SMALL) -> UNet:
    """A UNet with random weights.

    Layers that start at zero would hide the effect of the others.
    """
    network, generator = UNet(config), seeded(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network.eval().requires_grad_(False)


class TestUNet:
    @pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (8, 8), (13, 7), (17, 32)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_images_of_any_size(self, size: tuple[int, int], channels: int) -> None:
        config = UNetConfig(
            channels=channels, patch=2, widths=(8, 16, 32), blocks=1, attention=(2,), embedding=16
        )
        x = torch.randn(2, channels, *size, generator=seeded())
        out = perturbed_unet(config)(x, torch.tensor([-1.0, 0.5]))
        assert out.shape == x.shape
        assert torch.isfinite(out).all() and float(out.std()) > 0

    @pytest.mark.parametrize("width", [1, 20, 33, 64, 80])
    def test_attention_of_any_width(self, width: int) -> None:
        config = UNetConfig(
            channels=1, patch=1, widths=(4, width), blocks=1, attention=(1,), embedding=8
        )
        out = perturbed_unet(config)(torch.randn(1, 1, 4, 4, generator=seeded()), torch.zeros(1))
        assert out.shape == (1, 1, 4, 4) and torch.isfinite(out).all()

    def test_a_sample_alone_is_the_sample_in_a_batch(self) -> None:
        network, label = perturbed_unet(), torch.tensor([-1.5, -0.3, 0.2, 1.0])
        x = torch.randn(4, 3, 12, 9, generator=seeded())
        batch = network(x, label)
        alone = torch.cat([network(x[i : i + 1], label[i : i + 1]) for i in range(4)])
        # sums of a few hundred terms, a handful of layers deep
        torch.testing.assert_close(
            alone,
            batch,
            rtol=0,
            atol=500 * torch.finfo(torch.float32).eps * float(batch.abs().max()),
        )

    def test_the_noise_level_matters(self) -> None:
        x = torch.randn(1, 3, 8, 8, generator=seeded())
        network = perturbed_unet()
        low, high = (network(x, torch.tensor([label])) for label in (-1.0, 1.0))
        assert float((low - high).abs().max()) > 0.01 * float(low.abs().max())

    def test_every_pixel_can_reach_every_other(self) -> None:
        """The attention of the coarsest level makes the output depend on every pixel."""
        x = torch.randn(1, 3, 32, 32, generator=seeded())
        changed = x.clone()
        changed[..., 0, 0] += 5
        difference = (
            perturbed_unet()(x, torch.zeros(1)) - perturbed_unet()(changed, torch.zeros(1))
        ).abs()
        assert bool((difference.amax(1) > 0).double().mean() > 0.99)

    def test_starts_as_the_best_linear_denoiser(self) -> None:
        x = torch.randn(2, 3, 8, 8, generator=seeded())
        assert torch.equal(UNet(SMALL)(x, torch.zeros(2)), torch.zeros_like(x))

    def test_every_parameter_gets_a_gradient(self) -> None:
        network = perturbed_unet().requires_grad_()
        network(
            torch.randn(2, 3, 8, 8, generator=seeded()), torch.tensor([0.1, 0.4])
        ).square().mean().backward()
        without = [
            name
            for name, p in network.named_parameters()
            if p.grad is None or not bool((p.grad != 0).any())
        ]
        assert not without

    @pytest.mark.parametrize(
        "settings",
        [
            {"channels": 0},
            {"patch": 0},
            {"blocks": -1},
            {"embedding": 0},
            {"widths": (8, 0)},
            {"widths": (), "attention": ()},
            {"widths": (8, 32), "attention": (2,)},
            {"attention": (-1,)},
        ],
        ids=str,
    )
    def test_bad_sizes_are_refused_by_the_configuration(self, settings: dict) -> None:
        with pytest.raises(ValueError, match=r"UNet|level|attention"):
            UNetConfig(**settings)

    def test_lists_from_json_become_tuples(self) -> None:
        config = UNetConfig(widths=[8, 32], attention=[1])  # type: ignore[arg-type]
        assert config == UNetConfig(widths=(8, 32), attention=(1,)) and hash(config)


def test_features_of_no_noise_are_finite() -> None:
    """Where a sine is zero, distance over noise is 0/0 in the limit."""

    class First(nn.Module):
        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return x[:, :1] + x[:, 1:2]

    prior = ScorePrior(First(), EDMSDE(), (1, 1, 3), fourier=(7,))
    x = torch.tensor([[[[0.0, -1.0, 0.3]]]], requires_grad=True)
    D = prior.denoise(x, 0.0)
    torch.testing.assert_close(D, x)
    assert bool(torch.autograd.grad(D.sum(), x)[0].isfinite().all())


def test_beyond_the_levels_of_its_training_the_network_is_asked_at_the_nearest() -> None:
    """Beyond its training levels the network is evaluated at the nearest one.

    Another SDE may reach further. There D tends to the skip's output, and the noise label is not
    extrapolated.
    """

    class Label(nn.Module):
        def forward(self, x: Tensor, label: Tensor) -> Tensor:
            return torch.zeros_like(x) + label.reshape(-1, 1, 1, 1)

    prior = ScorePrior(Label(), EDMSDE(0.01, 20.0), (1, 4, 4)).with_sde(FlowMatchingSDE())
    x = torch.zeros(1, 1, 4, 4)
    for s, asked in ((0.001, 0.01), (0.5, 0.5), (19.0, 19.0), (500.0, 20.0)):
        answer = prior.network_output(x, torch.tensor([s]))
        torch.testing.assert_close(answer, torch.full_like(x, math.log(asked) / 4))
