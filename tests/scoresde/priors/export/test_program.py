"""Programs of torch.export are read back as the prior that was written."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

import scoresde
from scoresde import EDMSDE, VPSDE, InputError, Prior, load_prior
from scoresde.priors.export import Export, TracedDenoiser, export_prior, trace
from scoresde.priors.export.agreement import compare
from solvers.likelihood import log_likelihood
from solvers.likelihood.reference import GaussianReference
from tests.conftest import seeded
from tests.scoresde.priors.export.examples import example, noisy

pytestmark = pytest.mark.xdist_group("programs of denoisers")

Exported = Callable[[str], tuple[Prior, Export, str]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Examples that are exported once: the prior, what was written, the name of the program."""

    @cache
    def make(name: str) -> tuple[Prior, Export, str]:
        prior, folder = example(name), tmp_path_factory.mktemp(name) / "out"
        written = export_prior(prior, "torch-export", folder, name)
        return prior, written, f"torch-export:{folder / 'denoiser.pt2'}"

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fourier", "foreign", "signals"])
def test_read_back_to_the_bit(name: str, exported: Exported) -> None:
    prior, written, program = exported(name)
    assert written.difference == 0
    assert written.files == ("README.md", "denoiser.pt2", "scoresde.json")
    again = load_prior(program)
    assert (again.sde, again.shape) == (prior.sde, prior.shape)
    assert again.trained == pytest.approx(prior.trained, rel=1e-12)
    exact, twin = prior.with_sde(EDMSDE(1e-4, 100.0)), again.with_sde(EDMSDE(1e-4, 100.0))
    channels, *sides = prior.shape
    for shape in (prior.shape, (channels, *(side + 5 for side in sides))):
        x, sigma = noisy(shape)
        assert torch.equal(twin.denoise(x, sigma), exact.denoise(x, sigma))


@pytest.mark.slow
def test_time_is_that_of_the_prior(tmp_path: Path) -> None:
    """A prior under the VP SDE is one again; the state is rescaled in another order, by rounding.

    The rescaling differs by two roundings of x_t / alpha_t, which D passes on with a slope of at
    most 1 for this denoiser.
    """
    prior = example("vector").with_sde(VPSDE())
    export_prior(prior, "torch-export", tmp_path / "out")
    again = load_prior(f"torch-export:{tmp_path / 'out' / 'denoiser.pt2'}")
    assert again.sde == VPSDE()
    x, t = torch.randn(4, 3, generator=seeded(0)), torch.tensor([0.05, 0.2, 0.5, 0.8])
    torch.testing.assert_close(again.denoise(x, t), prior.denoise(x, t), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_moves_to_another_device(exported: Exported) -> None:
    """The tensors that a graph makes itself move too; the first prior stays where it was."""
    *_, program = exported("fourier")
    again = load_prior(program)
    x, sigma = noisy((1, 9, 10), 2)
    before = again.denoise(x, sigma)
    there = again.with_sde(again.sde).to("meta")
    assert there.denoise(x.to("meta"), sigma.to("meta")).device.type == "meta"
    fresh = load_prior(program)
    assert torch.equal(fresh.denoise(x, sigma), before)


@pytest.mark.slow
def test_too_small_a_picture_is_one_sentence(exported: Exported) -> None:
    *_, program = exported("fourier")
    again = load_prior(program)
    with pytest.raises(ValueError, match=r"does not take the shape \(1, 1, 2, 9\)"):
        again.denoise(torch.zeros(1, 1, 2, 9), 0.5)


@pytest.mark.slow
def test_a_wrong_export_is_refused() -> None:
    """An error of a thousandth, at one noise level of four, is found."""
    prior = example("vector")
    program = trace(prior).program
    denoise, traced = program.module(), TracedDenoiser(program, prior.shape, None)
    assert compare(prior, traced, denoise).difference == 0
    with pytest.raises(InputError, match=r"differs from the prior by 0\.001"):
        compare(prior, traced, lambda x, sigma: denoise(x, sigma) + 1e-3 * (sigma > 10)[:, None])


@pytest.mark.slow
def test_likelihood_of_mnist(tmp_path: Path) -> None:
    """The program of the embedded prior has its likelihood: values and Jacobians are the same."""
    with np.load(Path(scoresde.__file__).parent / "samples" / "mnist_digits.npz") as file:
        name = next(name for name in file.files if file[name].ndim == 3)
        digits = torch.from_numpy(file[name][:2]).float()[:, None]
    x = (digits + torch.rand(digits.shape, generator=seeded(0))) / 128 - 1
    prior = load_prior("mnist", precision="fp32")
    export_prior(prior, "torch-export", tmp_path / "out", "mnist")
    again = load_prior(f"torch-export:{tmp_path / 'out' / 'denoiser.pt2'}")
    settings = {
        "divergence": "hutchinson",
        "probes": 2,
        "nodes": 12,
        "reference": GaussianReference.of(prior, prior.shape),
    }
    values = [
        log_likelihood(one, x, generator=[seeded(1), seeded(2)], **settings).value
        for one in (prior, again)
    ]
    bits = (values[0] - values[1]).abs() / (28 * 28 * math.log(2))
    assert float(bits.max()) < 1e-3
    assert float(values[0].min()) > 0  # a density at all: the mean of the grey levels has less
