"""Small images from arrays: reading, dequantisation, Fourier features and likelihoods."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from scoresde import EDMSDE, InputError, ScorePrior, load_prior, save_prior
from scoresde.data.datasets import ImageArray
from scoresde.networks import UNet, UNetConfig
from scoresde.priors.score import fourier_features
from scoresde.training import TrainConfig
from tests.commands import run
from tests.conftest import seeded


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "digits.npz"
    np.savez(
        path,
        train=rng.integers(0, 256, (20, 8, 8), dtype=np.uint8),
        test=rng.integers(0, 256, (6, 8, 8), dtype=np.uint8),
    )
    return path


class TestImageArray:
    def test_plain_images_are_the_pixels(self, tmp_path: Path) -> None:
        pixels = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
        np.save(tmp_path / "a.npy", pixels)
        data = ImageArray(tmp_path / "a.npy")
        x = data.batch(50, 4, seeded())
        assert len(data) == 2 and x.shape == (50, 1, 4, 4)
        seen = {tuple(image.flatten().tolist()) for image in x}
        expected = torch.from_numpy(pixels).float() / 127.5 - 1
        assert seen == {tuple(image.flatten().tolist()) for image in expected}

    def test_dequantisation_fills_each_level_evenly(self, tmp_path: Path) -> None:
        """k -> (k + u)/128 - 1 with u uniform, by a Kolmogorov-Smirnov test at a level of 1e-4."""
        np.save(tmp_path / "a.npy", np.full((1, 16, 16), 255, np.uint8))
        x = ImageArray(tmp_path / "a.npy", dequantise=True).batch(20, 16, seeded()).flatten()
        assert float(x.min()) >= 1 - 1 / 128 and float(x.max()) <= 1
        assert stats.kstest((x.double().numpy() - (1 - 1 / 128)) * 128, "uniform").pvalue > 1e-4

    def test_colour_crops_and_flips(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3), dtype=np.uint8)
        np.save(tmp_path / "a.npy", pixels)
        whole = ImageArray(tmp_path / "a.npy", flips=True).batch(200, 6, seeded())
        assert whole.shape == (200, 3, 6, 6)
        assert len({tuple(x.flatten().tolist()) for x in whole}) == 8
        crop = ImageArray(tmp_path / "a.npy").batch(1, 4, seeded())[0]
        patches = (
            torch.from_numpy(pixels[0])
            .permute(2, 0, 1)
            .float()
            .div(127.5)
            .sub(1)
            .unfold(1, 4, 1)
            .unfold(2, 4, 1)
        )
        assert any(torch.equal(crop, patches[:, i, j]) for i in range(3) for j in range(3))

    def test_same_generator_same_batch(self, archive: Path) -> None:
        data = ImageArray(archive, "train", dequantise=True)
        assert torch.equal(data.batch(4, 8, seeded(3)), data.batch(4, 8, seeded(3)))
        assert not torch.equal(data.batch(4, 8, seeded(3)), data.batch(4, 8, seeded(4)))

    def test_bad_files_are_named(self, archive: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"train \(.*\), test \(.*\); name one with --array"):
            ImageArray(archive)
        with pytest.raises(InputError, match="has no array 'nothing'; it holds train"):
            ImageArray(archive, "nothing")
        with pytest.raises(InputError, match="no file"):
            ImageArray(tmp_path / "none.npy")
        (tmp_path / "text.npy").write_text("not an array")
        with pytest.raises(InputError, match=r"text.npy: it is no .npy file"):
            ImageArray(tmp_path / "text.npy")
        np.save(tmp_path / "float.npy", np.zeros((2, 4, 4)))
        with pytest.raises(InputError, match=r"uint8.*float64"):
            ImageArray(tmp_path / "float.npy")
        np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
        with pytest.raises(InputError, match=r"object.npy"):
            ImageArray(tmp_path / "object.npy")
        with pytest.raises(InputError, match="smaller than the crop 9"):
            ImageArray(archive, "train").batch(1, 9, seeded())


class TestFourierFeatures:
    def test_they_are_what_they_say(self) -> None:
        u = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=seeded()) * 2 - 1
        s = torch.tensor([0.01, 0.2], dtype=torch.float64)
        features = fourier_features(u, s, (3, 8))
        assert features.shape == (2, 12, 4, 4)
        for b in range(2):
            for i, n in enumerate((3, 8)):
                w = 2**n * math.pi
                torch.testing.assert_close(
                    features[b, 3 * i : 3 * i + 3], torch.tanh(torch.sin(w * u[b]) / (w * s[b]))
                )
                torch.testing.assert_close(
                    features[b, 6 + 3 * i : 9 + 3 * i], torch.tanh(torch.cos(w * u[b]) / (w * s[b]))
                )

    def test_the_finest_has_the_period_of_the_grey_levels_and_fades_with_the_noise(self) -> None:
        u = -1 + (torch.arange(256, dtype=torch.float64) + 0.3) / 128
        sine = fourier_features(
            u.reshape(1, 1, 1, -1), torch.tensor([1e-3], dtype=torch.float64), (8,)
        )[0, 0, 0]
        torch.testing.assert_close(sine, sine[:1].expand(256), rtol=0, atol=1e-9)
        assert float(sine[0]) > 0.5  # past the lower edge of the level
        assert (
            float(
                fourier_features(
                    u.reshape(1, 1, 1, -1), torch.tensor([1.0], dtype=torch.float64), (8,)
                )
                .abs()
                .max()
            )
            < 2e-3
        )

    def test_the_network_sees_them_and_the_checkpoint_keeps_them(self, tmp_path: Path) -> None:
        class Spy(UNet):
            def forward(self, x: Tensor, label: Tensor) -> Tensor:
                self.seen = x.shape
                return super().forward(x, label)

        network = Spy(
            UNetConfig(channels=1, widths=(8,), blocks=1, attention=(), embedding=16, extra=4)
        )
        torch.nn.init.normal_(network.head.weight, std=0.1)
        prior = ScorePrior(network, EDMSDE(), (1, 8, 8), fourier=(7, 8))
        x = torch.rand(2, 1, 8, 8, generator=seeded())
        expected = prior.denoise(x, 0.01)
        assert network.seen == (2, 5, 8, 8) and expected.shape == x.shape
        network.__class__ = UNet  # the checkpoint stores the class name
        save_prior(prior, tmp_path / "p.safetensors")
        again = load_prior(tmp_path / "p.safetensors", precision="fp32")
        assert again.fourier == (7, 8)
        torch.testing.assert_close(again.denoise(x, 0.01), expected)

    def test_a_network_without_the_channels_is_refused(self) -> None:
        with pytest.raises(ValueError, match="extra=4, got 0"):
            TrainConfig(fourier=(7, 8), network=UNetConfig(channels=1))


@pytest.mark.slow
class TestCommands:
    SMALL = (
        "--channels",
        1,
        "--crop",
        8,
        "--widths",
        "8,16",
        "--blocks",
        1,
        "--steps",
        2,
        "--batch",
        2,
        "--device",
        "cpu",
    )

    def test_train_then_likelihood(
        self, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        more = (
            "--array",
            "train",
            "--dequantise",
            "--fourier",
            "7,8",
            "--noise=-3,2",
            "--noise-range",
            "0.001,20",
            "--sigma-data",
            0.6,
        )
        code, text, err = run(
            capsys, "train", archive, "--out", tmp_path / "run", *self.SMALL, *more, "--json"
        )
        assert code == 0, err
        path = json.loads(text)["prior"]
        prior = load_prior(path)
        assert (
            prior.fourier == (7, 8) and prior.sigma_data == 0.6 and prior.sde == EDMSDE(0.001, 20.0)
        )
        arguments = (
            "likelihood",
            "--dataset",
            archive,
            "--array",
            "test",
            "--count",
            5,
            "--prior",
            path,
            "--nodes",
            16,
            "--batch",
            2,
        )
        code, text, err = run(capsys, *arguments, "--json")
        assert code == 0, err
        report = json.loads(text)
        assert len(report["bits_per_dim"]) == 5 and report["vjps"] == (16 + 8) * 4
        # trained too coarsely for a smaller noise
        assert report["nfe"] == 16 + 3 * 15 and report["density_at"] == pytest.approx(0.001)
        assert report["mean"] == pytest.approx(np.mean(report["bits_per_dim"]))
        # noise of 256 equally likely levels costs at least 8 bits on average under any model
        assert report["mean"] > 7.5
        assert (
            json.loads(run(capsys, *arguments, "--json")[1])["bits_per_dim"]
            == report["bits_per_dim"]
        )
        # the last of two options with the same name counts
        for more in (
            ("--batch", 5),
            ("--batch", 1, "--count", 3),
        ):
            others = json.loads(run(capsys, *arguments, *more, "--json")[1])["bits_per_dim"]
            assert others == pytest.approx(report["bits_per_dim"][: len(others)], abs=1e-5)
        code, text, err = run(capsys, *arguments)
        assert code == 0 and "bits/dim, mean of 5 images" in text

    def test_likelihood_of_pictures(
        self, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The same pixels from a picture and from an array have the same likelihood."""
        from PIL import Image

        code, text, err = run(
            capsys,
            "train",
            archive,
            "--out",
            tmp_path / "run",
            *self.SMALL,
            "--array",
            "train",
            "--dequantise",
            "--json",
        )
        assert code == 0, err
        path = json.loads(text)["prior"]
        pixels = np.load(archive)["test"][:1]
        Image.fromarray(pixels[0]).save(tmp_path / "a.png")
        np.save(tmp_path / "a.npy", pixels)
        settings = ("--prior", path, "--divergence", "exact", "--nodes", 8, "--json")
        values = []
        for source in ((tmp_path / "a.png",), ("--dataset", tmp_path / "a.npy")):
            code, text, err = run(capsys, "likelihood", *source, *settings)
            assert code == 0, err
            values.append(json.loads(text)["bits_per_dim"][0])
            assert json.loads(text)["density_at"] == pytest.approx(0.002)
        assert values[0] == pytest.approx(values[1], abs=1e-9)
        Image.fromarray(np.pad(pixels[0], 4)).save(tmp_path / "larger.png")
        for batch in (1, 16):
            code, _, err = run(
                capsys,
                "likelihood",
                tmp_path / "a.png",
                tmp_path / "larger.png",
                *settings,
                "--batch",
                batch,
            )
            assert code == 2 and "larger.png has another size than" in err

    def test_bad_input_ends_in_one_line(
        self, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        np.save(tmp_path / "colour.npy", np.zeros((2, 8, 8, 3), np.uint8))
        train = ("train", archive, "--out", tmp_path / "o", *self.SMALL)
        cases = [
            ((*train,), "holds several arrays, train (20, 8, 8)"),
            ((*train, "--array", "train", "--fourier", "a"), "--fourier takes whole numbers"),
            ((*train, "--array", "train", "--noise", "1"), "--noise takes MEAN,STD"),
            (
                ("train", tmp_path / "colour.npy", "--out", tmp_path / "o", *self.SMALL),
                "pass --channels 3",
            ),
            (("train", tmp_path, "--out", tmp_path / "o", "--dequantise"), ".npz or .mat"),
            (("likelihood",), "pictures or --dataset"),
            (("likelihood", tmp_path / "none.png"), "none.png"),
            (
                ("likelihood", "--dataset", archive, "--array", "test"),
                "have 1 channels, the prior 3",
            ),
            (("likelihood", "--dataset", tmp_path / "colour.npy", "--probes", 3), "power of 2"),
            (
                ("likelihood", "--dataset", tmp_path / "colour.npy", "--divergence", "skilling"),
                "exact, hutchinson",
            ),
        ]
        for arguments, message in cases:
            code, _, err = run(capsys, *arguments)
            assert code == 2 and message in err and len(err.strip().splitlines()) == 1, (
                arguments,
                err,
            )
