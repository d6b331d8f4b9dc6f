"""`scoresde doctor`: the report is true of a sound installation, and finds what is broken."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from scoresde.errors import InputError
from scoresde.files import WEIGHTS
from scoresde.pipelines import doctor as module
from scoresde.pipelines.doctor import FORMAT, doctor
from scoresde.pipelines.machine_speed import convolution_speed
from tests.commands import run

SHORT = 0.01


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder with one embedded prior."""
    shutil.copy(WEIGHTS / "mnist.safetensors", tmp_path)
    return tmp_path


def test_speed_is_that_of_the_same_convolution_by_hand() -> None:
    """Within a factor that other work on the machine explains."""
    x, w = torch.randn(1, 96, 64, 64), torch.randn(96, 96, 3, 3)
    with torch.no_grad():
        F.conv2d(x, w, padding=1)
        times = []
        for _ in range(9):
            start = time.perf_counter()
            F.conv2d(x, w, padding=1)
            times.append(time.perf_counter() - start)
    by_hand = 2 * 96 * 96 * 9 * 64 * 64 / float(np.median(times)) / 1e9
    found = convolution_speed(torch.device("cpu"), seconds=0.05)
    assert found.runs >= 3
    assert by_hand / 8 < found.gflops < 8 * by_hand


def test_speed_needs_a_time() -> None:
    with pytest.raises(ValueError, match="seconds of a measurement"):
        convolution_speed(torch.device("cpu"), seconds=0)


def test_a_sound_installation() -> None:
    report = doctor("cpu", seconds=SHORT)
    assert report["format"] == FORMAT and report["device"] == "cpu"
    assert report["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert report["threads"]["threads"] == torch.get_num_threads()
    assert report["memory"]["cpu"] > 0
    assert report["precision"]["network"] in ("bf16", "fp32")
    assert {"float32", "bfloat16"} <= set(report["speed"])
    names = {one["name"] for one in report["weights"]}
    assert {"natural", "mnist", "families/vae"} <= names
    assert all(one["whole"] for one in report["weights"])
    assert all(one["writable"] for one in report["folders"])
    assert not [text for text in report["problems"] if "weights" in text or "written" in text]


@pytest.mark.slow
def test_threads_are_as_before() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert "one_thread" in doctor("cpu", seconds=SHORT)["speed"]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_extras_name_what_they_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = module.importlib.metadata
    requirements = ["numpy", 'numpy; extra == "full"', 'no-such-package>=2; extra == "lacking"']
    requirements.append('numpy<0.1; extra == "old"')

    class Metadata:
        def get_all(self, name: str) -> list[str]:
            return ["full", "lacking", "old"] if name == "Provides-Extra" else []

    monkeypatch.setattr(metadata, "requires", lambda _: requirements)
    monkeypatch.setattr(metadata, "metadata", lambda _: Metadata())
    expected = {"full": [], "lacking": ["no-such-package>=2"], "old": ["numpy<0.1"]}
    assert module._extras() == expected


def test_cut_weights_are_found(weights: Path) -> None:
    file = weights / "mnist.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    report = doctor("cpu", seconds=SHORT, weights=weights)
    assert not report["weights"][0]["whole"]
    assert any("the weights mnist are broken" in text for text in report["problems"])


def test_weights_that_are_not_finite_are_found(weights: Path) -> None:
    from scoresde.files import read_tensors, write_tensors

    file = weights / "mnist.safetensors"
    tensors, header = read_tensors(file)
    first = next(name for name, x in tensors.items() if x.is_floating_point())
    tensors[first] = torch.full_like(tensors[first], float("nan"))
    write_tensors(file, tensors, header)
    (found,) = doctor("cpu", seconds=SHORT, weights=weights)["weights"]
    assert not found["whole"] and "not finite" in found["why"]


def test_weights_differ_from_those_that_were_installed(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = weights / "mnist.safetensors"
    right = module._digest(file.read_bytes())
    monkeypatch.setattr(module, "_recorded", lambda: {str(file.resolve()): right})
    assert module._weights(file, weights)["whole"]
    monkeypatch.setattr(module, "_recorded", lambda: {str(file.resolve()): "another"})
    assert "differs" in module._weights(file, weights)["why"]


def test_an_empty_folder_of_weights_is_a_problem(tmp_path: Path) -> None:
    problems = doctor("cpu", seconds=SHORT, weights=tmp_path)["problems"]
    assert any("no weights" in text for text in problems)


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(module, "_places", lambda: {"downloads": file / "below"})
    report = doctor("cpu", seconds=SHORT)
    assert not report["folders"][0]["writable"]
    assert any("which is for downloads" in text for text in report["problems"])
    missing = module._folder("later", tmp_path / "not" / "yet")
    assert missing["writable"] and not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"memory": {"cpu": 1e9, "device": 1e9}}, "GB of memory are free"),
        (
            {"threads": {"threads": 8, "processors": 2, "load": 0.0, "wait_policy": None}},
            "OMP_NUM_THREADS=2",
        ),
        (
            {"speed": {"float32": {"gflops": 1.0}, "one_thread": {"gflops": 2.0}}},
            "slower than one",
        ),
    ],
)
def test_problems_say_what_to_do(change: dict, words: str) -> None:
    sound = {
        "weights": [{"name": "a", "whole": True}],
        "folders": [],
        "memory": {"cpu": 9e9, "device": 9e9},
        "threads": {"threads": 1, "processors": 1, "load": 0.0, "wait_policy": None},
        "speed": {"float32": {"gflops": 2.0}, "one_thread": {"gflops": 1.5}},
    }
    assert module._problems(sound) == []
    (found,) = module._problems(sound | change)
    assert words in found


@pytest.mark.slow
def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "doctor", "--device", "cpu")
    assert status == (1 if "problem " in out else 0), err
    for word in ("versions", "precision", "GFLOP/s", "files are whole", "writable"):
        assert word in out
    status, out, _ = run(capsys, "doctor", "--device", "cpu", "--json")
    assert json.loads(out)["format"] == FORMAT


def test_an_unknown_device_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError):
        doctor("nowhere")
    status, _, err = run(capsys, "doctor", "--device", "nowhere")
    assert status == 2 and "nowhere" in err
