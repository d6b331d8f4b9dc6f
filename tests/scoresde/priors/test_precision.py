"""Precision of networks: copies with frozen weights, derivatives, and likelihoods in float32."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import scoresde.priors.score
from problems import Denoising, GaussianNoise, InverseProblem
from scoresde import (
    EDMSDE,
    VPSDE,
    CountingPrior,
    EquivariantPrior,
    GaussianPrior,
    InputError,
    ScorePrior,
    TiledPrior,
    load_prior,
    save_prior,
)
from scoresde.networks import Perceptron, PerceptronConfig, UNet, UNetConfig
from scoresde.pipelines.devices import open_prior
from scoresde.priors import hardware
from scoresde.priors.frozen import FrozenCopies
from scoresde.priors.hardware import fast_bf16
from solvers import MMPS, bits_per_dim, elbo, log_likelihood
from solvers.jacobian import Linearisation, value_and_products
from tests.conftest import seeded

BF16 = torch.bfloat16
CONFIGS = {
    "plain": UNetConfig(3, widths=(16, 32), blocks=1, attention=(), preactivation=False),
    "attention": UNetConfig(3, widths=(16, 64), blocks=(2, 1), attention=(1,), embedding=16),
    "features": UNetConfig(3, widths=(16,), blocks=1, attention=(), extra=12),
}


def make(kind: str = "plain", *, seed: int = 0, frozen: bool = True) -> ScorePrior:
    """A prior with random weights."""
    network, generator = UNet(CONFIGS[kind]), seeded(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    fourier = (6, 7) if kind == "features" else ()
    prior = ScorePrior(network, EDMSDE(), (3, 8, 8), fourier=fourier).eval()
    return prior.requires_grad_(not frozen)


def fast(monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
    """Let the hardware be fast at bfloat16, or not."""
    monkeypatch.setattr(scoresde.priors.score, "fast_bf16", lambda device: answer)


def images(n: int = 2, height: int = 12, width: int = 9) -> Tensor:
    return torch.randn(n, 3, height, width, generator=seeded(1))


def vjp(prior: ScorePrior, x: Tensor, v: Tensor) -> Tensor:
    return Linearisation(lambda u: prior.denoise(u, 0.4), x).vjp(v)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


class TestCopies:
    @pytest.mark.parametrize("kind", list(CONFIGS))
    def test_agree_with_autocast_up_to_rounding(self, kind: str) -> None:
        """Values and products: no further from float32 than autocast, whose labels are rounded."""
        exact, x, v = make(kind), images(8), images(8).flip(0)
        lower = exact.in_precision("bf16")
        trained = ScorePrior(
            copy.deepcopy(exact.network), EDMSDE(), (3, 8, 8), 0.5, BF16, None, exact.fourier
        ).requires_grad_(True)
        for f in (lambda p: p.denoise(x, 0.4).detach(), lambda p: vjp(p, x, v)):
            reference, ours, cast = f(exact), f(lower), f(trained)
            assert 0 < distance(ours, reference) < 1.3 * distance(cast, reference) < 0.03
            assert distance(ours, cast) < 0.02

    def test_the_noise_label_stays_in_full_precision(self) -> None:
        """Levels that are one label in bfloat16 are told apart."""
        prior = make().in_precision("bf16")
        with torch.no_grad():
            film = prior.network.down_blocks[0][0].film  # type: ignore[index, union-attr]
            film.weight.copy_(100 * torch.randn(film.weight.shape, generator=seeded(2)))
        near = torch.tensor([0.3990, 0.3996])
        assert (near.log() / 4).to(BF16).unique().numel() == 1
        low, high = (prior.network_output(images(), s.expand(2)) for s in near)
        assert not torch.equal(low, high)

    def test_only_convolutions_are_converted(self) -> None:
        network = make("attention").network
        lower = network.in_dtype(BF16)  # type: ignore[operator]
        for name, module in lower.named_modules():
            expected = BF16 if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) else torch.float32
            assert all(p.dtype == expected for p in module.parameters(recurse=False)), name
        assert all(p.dtype == torch.float32 for p in network.parameters())

    def test_are_made_once_and_again_when_weights_change(self) -> None:
        prior = make().in_precision("bf16")
        network, x = prior.network, images()
        first = prior._copies.of(network, BF16)
        before = prior.denoise(x, 0.4)
        assert prior.with_sde(VPSDE())._copies.of(network, BF16) is first
        with torch.no_grad():
            network.head.weight.mul_(2)  # type: ignore[operator, union-attr]
        after = prior.denoise(x, 0.4)
        assert not torch.equal(after, before)
        other = make(seed=5)
        network.load_state_dict(other.network.state_dict())
        assert torch.equal(prior.denoise(x, 0.4), other.in_precision("bf16").denoise(x, 0.4))
        network.stem.bias = nn.Parameter(torch.ones(16), requires_grad=False)
        assert prior._copies.of(network, BF16).stem.bias.eq(1).all()  # type: ignore[union-attr, operator]

    def test_weights_that_are_trained_get_their_gradients(self) -> None:
        """A copy would not pass them on."""
        prior = make(frozen=False).in_precision("bf16")
        prior.denoise(images(), 0.4).square().mean().backward()
        assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in prior.parameters())

    def test_of_another_network_there_are_none(self) -> None:
        perceptron = Perceptron(PerceptronConfig()).requires_grad_(False)
        assert FrozenCopies().of(perceptron, BF16) is None

    def test_without_a_copy_only_a_precision_by_name_is_lower(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fast(monkeypatch, True)
        vectors = ScorePrior(Perceptron(PerceptronConfig()).requires_grad_(False), EDMSDE(), (2,))
        nn.init.ones_(vectors.network.layers[-1].weight)  # type: ignore[index, union-attr, arg-type]
        for prior, x in ((vectors, torch.ones(1, 2)), (make(frozen=False), images())):
            full, auto, bf16 = (
                prior.in_precision(p).denoise(x, 0.4)  # type: ignore[arg-type]
                for p in ("fp32", "auto", "bf16")
            )
            assert torch.equal(auto, full) and not torch.equal(bf16, full)

    def test_made_in_inference_mode_they_have_gradients_later(self) -> None:
        prior, x = make().in_precision("bf16"), images()
        with torch.inference_mode():
            value = prior.denoise(x, 0.4).clone()
        u = x.clone().requires_grad_()
        D = prior.denoise(u, 0.4)
        assert torch.equal(D, value) and torch.autograd.grad(D.sum(), u)[0].isfinite().all()

    def test_they_are_no_part_of_the_prior(self) -> None:
        prior = make().in_precision("bf16")
        names = prior.state_dict().keys()
        prior.denoise(images(), 0.4)
        assert prior.state_dict().keys() == names and prior.dtype == torch.float32
        assert torch.equal(copy.deepcopy(prior).denoise(images(), 1), prior.denoise(images(), 1))


class TestDerivatives:
    @pytest.mark.parametrize("kind", list(CONFIGS))
    def test_many_products_from_one_evaluation(self, kind: str) -> None:
        prior, x = make(kind).in_precision("bf16"), images()
        v = torch.stack([images(2), images(2).flip(0)])
        value, products = value_and_products(lambda u: prior.denoise(u, 0.4), x)
        assert distance(value, prior.denoise(x, 0.4)) < 0.02  # the attention sums in another order
        expected = torch.stack([vjp(prior, x, one) for one in v])
        assert distance(products(v), expected) < 0.02

    def test_of_second_order(self) -> None:
        """The gradient of |J^T v|^2 is that in float32, up to the rounding of bfloat16."""
        exact, x, v = make(), images(), images(2).flip(0)
        found = []
        for prior in (exact, exact.in_precision("bf16")):
            u = x.clone().requires_grad_()
            product = torch.autograd.grad(prior.denoise(u, 0.4), u, v, create_graph=True)[0]
            found.append(torch.autograd.grad(product.square().sum(), u)[0])
        assert distance(found[1], found[0]) < 0.05

    @pytest.mark.parametrize("kind", list(CONFIGS))
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_steps_in_place_change_no_bit(self, kind: str, precision: str) -> None:
        """Without gradients the network overwrites feature maps, with the same results."""
        prior, x = make(kind).in_precision(precision), images()  # type: ignore[arg-type]
        before = x.clone()
        with torch.no_grad():
            without = prior.denoise(x, 0.4)
        u = x.clone().requires_grad_()
        assert torch.equal(prior.denoise(u, 0.4), without) and torch.equal(x, before)
        assert without.is_contiguous()

    def test_feature_maps_have_the_channels_last(self) -> None:
        """Also behind the folding, the padding and the skips, where layouts change."""
        prior = make().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        seen: list[Tensor] = []
        for module in prior.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        prior.denoise(images(), 0.4)
        assert len(seen) == 10
        assert all(h.is_contiguous(memory_format=torch.channels_last) for h in seen)


class TestChoice:
    @pytest.mark.slow
    def test_the_same_from_python_and_from_the_command_line(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prior, path, x = make(), tmp_path / "prior.safetensors", images()
        save_prior(prior, path)
        prior.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for answer in (True, False):
            fast(monkeypatch, answer)
            for name, same in (
                ("auto", "bf16" if answer else "fp32"),
                ("bf16",) * 2,
                ("fp32",) * 2,
            ):
                expected = prior.in_precision(same)  # type: ignore[arg-type]
                for found in (
                    load_prior(path, precision=name),  # type: ignore[arg-type]
                    open_prior(str(path), torch.device("cpu"), name),
                ):
                    assert torch.equal(found.denoise(x, 0.4), expected.denoise(x, 0.4))
        assert load_prior(path).precision == "auto"

    def test_unknown_names(self, tmp_path: Path) -> None:
        save_prior(make(), tmp_path / "prior.safetensors")
        with pytest.raises(ValueError, match="unknown precision 'fp8'; known: auto, bf16, fp32"):
            load_prior(tmp_path / "prior.safetensors", precision="fp8")  # type: ignore[arg-type]
        with pytest.raises(InputError, match="--precision must be auto, bf16 or fp32, got 'fp8'"):
            open_prior(str(tmp_path / "prior.safetensors"), torch.device("cpu"), "fp8")

    def test_weights_in_double_precision_are_not_lowered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fast(monkeypatch, True)
        prior = make().double().in_precision("auto")
        x = images().double()
        assert torch.equal(prior.denoise(x, 0.4), prior.in_precision("fp32").denoise(x, 0.4))

    def test_hardware_by_its_flags(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cpu = torch.device("cpu")
        for amx, avx, amd, expected in (
            *((0, 0, 0, False), (0, 0, 1, False), (1, 0, 0, True)),
            *((0, 1, 0, False), (0, 1, 1, True)),
        ):
            fast_bf16.cache_clear()
            monkeypatch.setattr(hardware, "_is_of_amd", lambda amd=amd: bool(amd))
            monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: bool(amx))
            monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda avx=avx: bool(avx))
            assert fast_bf16(cpu) is expected
        fast_bf16.cache_clear()
        monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
        monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
        assert fast_bf16(cpu) is False
        fast_bf16.cache_clear()


class TestLikelihoods:
    """They are in float32 unless bfloat16 was asked for by name."""

    @pytest.fixture(autouse=True)
    def _fast(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fast(monkeypatch, True)

    def all_of(self, prior: ScorePrior) -> list[Tensor]:
        x = torch.randint(256, (2, 3, 4, 4), generator=seeded(), dtype=torch.uint8)
        u = x.float() / 127.5 - 1
        settings = {"divergence": "hutchinson", "probes": 1, "nodes": 8}
        return [
            bits_per_dim(prior, x, generator=seeded(1), **settings).value,
            log_likelihood(prior, u, generator=seeded(2), **settings).value,  # type: ignore[arg-type]
            elbo(prior, u, nodes=8, generator=seeded(3)).value,
        ]

    @pytest.mark.slow
    def test_are_those_of_full_precision_to_the_bit(self, tmp_path: Path) -> None:
        save_prior(make(), tmp_path / "prior.safetensors")
        auto, full, bf16 = (
            load_prior(tmp_path / "prior.safetensors", precision=p)  # type: ignore[arg-type]
            for p in ("auto", "fp32", "bf16")
        )
        expected = self.all_of(full)
        assert all(map(torch.equal, self.all_of(auto), expected))
        assert not any(map(torch.equal, self.all_of(bf16), expected))
        # the prior that was given still computes in bfloat16
        assert torch.equal(auto.denoise(images(), 1), bf16.denoise(images(), 1))

    def test_through_wrappers(self) -> None:
        auto, full, x = make().in_precision("auto"), make(), images(1, 8, 8)
        problem = InverseProblem(Denoising(), GaussianNoise(0.3))
        for wrap in (
            CountingPrior,
            TiledPrior,
            lambda p: EquivariantPrior(TiledPrior(p), "shifts"),
            lambda p: MMPS().condition(p, problem, x),
        ):
            inside, expected = wrap(auto).precise(), wrap(full)
            assert type(inside) is type(expected)
            torch.testing.assert_close(
                inside.denoise(x, 0.4), expected.denoise(x, 0.4), rtol=0, atol=0
            )
            assert expected.precise() is expected
        gaussian = GaussianPrior(torch.zeros(2), torch.eye(2))
        assert gaussian.precise() is gaussian

    def test_a_precision_by_name_is_kept(self) -> None:
        for prior in (make().in_precision("bf16"), make().in_precision("fp32")):
            assert prior.precise() is prior
        autocast = ScorePrior(UNet(CONFIGS["plain"]), EDMSDE(), (3, 8, 8), autocast=BF16)
        assert autocast.precise() is autocast
        assert autocast.in_precision("fp32").autocast is None
