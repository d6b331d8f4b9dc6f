"""`scoresde export`."""

import json
from pathlib import Path

import pytest

from scoresde import EDMSDE, ScorePrior, load_prior, save_prior
from scoresde.networks import UNet, UNetConfig
from tests.commands import run


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    network = UNet(UNetConfig(channels=1, widths=(8,), blocks=1, attention=(), embedding=16))
    save_prior(ScorePrior(network, EDMSDE(), (1, 8, 8)), tmp_path / "prior.safetensors")
    return tmp_path / "prior.safetensors"


@pytest.mark.slow
def test_export_of_a_checkpoint(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for _ in range(2):  # the second replaces the first
        status, text, err = run(capsys, "export", checkpoint, out, "--to", "torch-export", "--json")
        assert (status, err) == (0, "")
    report = json.loads(text)
    assert report["files"] == ["README.md", "denoiser.pt2", "scoresde.json"]
    assert report["difference"] == 0
    assert load_prior(f"torch-export:{out / 'denoiser.pt2'}").shape == (1, 8, 8)
    # what was exported can be exported again, averaged
    source = f"torch-export:{out / 'denoiser.pt2'}"
    status, text, err = run(
        capsys, "export", source, tmp_path / "b", "--to", "diffusers", "--average", "turns"
    )
    assert (status, err) == (0, "")
    assert "rounding explains" in text and (tmp_path / "b" / "model_index.json").is_file()


def test_bad_arguments_are_one_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, _, err = run(capsys, "export", checkpoint, tmp_path / "out", "--to", "keras")
    assert status == 2 and "diffusers, torch-export, onnx" in err and err.count("\n") == 1
    status, _, err = run(capsys, "export", checkpoint, tmp_path, "--to", "onnx")
    assert status == 2 and "prior.safetensors" in err and "name a new folder" in err
    status, _, err = run(capsys, "export", "nonsense", tmp_path / "out", "--to", "onnx")
    assert status == 2 and "unknown prior" in err
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]
