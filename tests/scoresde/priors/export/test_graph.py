"""ONNX files, run by onnxruntime."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scoresde import EDMSDE, InputError, load_prior
from scoresde.priors.export import Export, export_prior
from tests.scoresde.priors.export.examples import example, noisy

MISSING = "{} is not installed; pip install 'scoresde[onnx]'"
onnxruntime = pytest.importorskip("onnxruntime", reason=MISSING.format("onnxruntime"))
pytest.importorskip("onnxscript", reason=MISSING.format("onnxscript"))
pytestmark = pytest.mark.xdist_group("graphs of ONNX")


def session(folder: Path) -> Any:
    return onnxruntime.InferenceSession(
        str(folder / "denoiser.onnx"), providers=["CPUExecutionProvider"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dit", "vector", "foreign"])  # UNets are those that ship
def test_values(name: str, tmp_path: Path) -> None:
    """No farther from the prior than four times its own distance from itself in float64."""
    prior = example(name)
    written = export_prior(prior, "onnx", tmp_path / "out", name)
    assert 0 <= written.difference <= written.tolerance < 1e-3
    run, exact = session(tmp_path / "out"), prior.with_sde(EDMSDE())
    channels, *sides = prior.shape
    for shape in (prior.shape, (channels, *(side + 3 for side in sides))):
        x, sigma = noisy(shape)
        (x0_hat,) = run.run(["x0_hat"], {"x": x.numpy(), "sigma": sigma.numpy()})
        wanted = exact._denoise(x, sigma)
        np.testing.assert_allclose(x0_hat, wanted, rtol=0, atol=3 * written.tolerance)


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> tuple[Export, Path]:
    """The prior of digits, exported once, and its folder."""
    folder = tmp_path_factory.mktemp("mnist") / "out"
    return export_prior(load_prior("mnist"), "onnx", folder, "mnist"), folder


@pytest.mark.slow
def test_mnist_and_its_metadata(mnist: tuple[Export, Path]) -> None:
    prior, (written, folder) = load_prior("mnist"), mnist
    assert written.difference <= written.tolerance < 1e-4
    run = session(folder)
    known = run.get_modelmeta().custom_metadata_map
    assert (known["channels"], json.loads(known["shape"])) == ("1", [1, 28, 28])
    assert json.loads(known["value_range"]) == [-1, 1]
    levels = float(known["sigma_min"]), float(known["sigma_max"])
    assert levels == pytest.approx(prior.trained)
    assert json.loads(known["card"])["summary"] == prior.card["summary"]
    assert [i.shape for i in run.get_inputs()] == [["batch", 1, "height", "width"], ["batch"]]
    assert run.get_outputs()[0].shape == ["batch", 1, "height", "width"]


@pytest.mark.slow
def test_natural(tmp_path: Path) -> None:
    """On a picture of another size than that of its training."""
    prior = load_prior("natural", precision="fp32")
    written = export_prior(prior, "onnx", tmp_path / "out", "natural")
    assert written.difference <= written.tolerance < 1e-3
    x, sigma = noisy((3, 72, 40))
    (x0_hat,) = session(tmp_path / "out").run(["x0_hat"], {"x": x.numpy(), "sigma": sigma.numpy()})
    np.testing.assert_allclose(x0_hat, prior._denoise(x, sigma), rtol=0, atol=3 * written.tolerance)


@pytest.mark.slow
def test_readme_runs(mnist: tuple[Export, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines that it shows denoise: black pictures with noise of 0.5 become nearly black."""
    _, folder = mnist
    text = (folder / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["x0_hat"].shape == (1, 1, 28, 28)
    assert float(np.abs(names["x0_hat"]).mean()) < 1.1
    assert "28 x 28" in text or "at least" in text


def test_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(name: str) -> Any:
        if name == "onnxscript":
            raise ModuleNotFoundError("No module named 'onnxscript'", name=name)
        return import_module(name)

    monkeypatch.setattr("scoresde.priors.export.onnx.import_module", lacks)
    with pytest.raises(InputError, match=r"package onnxscript; .* pip install 'scoresde\[onnx\]'"):
        export_prior(example("vector"), "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_onnx_does_not_have_is_one_sentence(tmp_path: Path) -> None:
    from scoresde import DenoiserPrior

    prior = DenoiserPrior(
        lambda x, sigma: torch.special.bessel_j1(x) / (1 + sigma[:, None, None, None]), (1, 4, 4)
    )
    with pytest.raises(InputError, match=r"as ONNX \(the operation [\w.]*bessel_j1"):
        export_prior(prior, "onnx", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
