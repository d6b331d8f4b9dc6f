"""``load_prior("onnx:FILE")``: a prior for inference alone."""

from pathlib import Path

import pytest
import torch

from scoresde import EDMSDE, InputError, load_prior
from scoresde.priors.export import export_prior
from solvers import DDIM, log_likelihood
from tests.conftest import seeded
from tests.scoresde.priors.export.examples import example, noisy

for package in ("onnxruntime", "onnxscript"):
    pytest.importorskip(package, reason=f"{package} is not installed; pip install 'scoresde[onnx]'")


@pytest.mark.slow
def test_denoiser_and_draws_are_those_of_the_prior(tmp_path: Path) -> None:
    prior = example("fourier")
    written = export_prior(prior, "onnx", tmp_path / "out")
    again = load_prior(f"onnx:{tmp_path / 'out' / 'denoiser.onnx'}")
    assert (again.shape, again.trained) == (prior.shape, pytest.approx(prior.trained))
    assert again.sde == EDMSDE(0.01, 20.0)
    wide = EDMSDE(1e-4, 100.0)
    x, sigma = noisy((1, 14, 9))
    torch.testing.assert_close(
        again.with_sde(wide).denoise(x, sigma),
        prior.with_sde(wide).denoise(x, sigma),
        rtol=0,
        atol=3 * written.tolerance,
    )
    # ten steps of DDIM; each passes on the differences before it, with slopes near 1
    draws = [DDIM(10).sample(one, 2, generator=seeded(3)) for one in (again, prior)]
    torch.testing.assert_close(*draws, rtol=0, atol=100 * written.tolerance)
    with pytest.raises(InputError, match=r"has no derivatives.*--to torch-export"):
        log_likelihood(again, x[:1], nodes=8, divergence="hutchinson", probes=1)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ONNX file"):
        load_prior(f"onnx:{tmp_path / 'none.onnx'}")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(InputError, match=r"onnxruntime cannot read .*text\.onnx"):
        load_prior(f"onnx:{tmp_path / 'text.onnx'}")
