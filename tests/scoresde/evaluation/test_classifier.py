"""The digit classifier, its features and the class report, on the 64 packaged test digits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import scoresde
from scoresde import InputError
from scoresde.evaluation import (
    DigitClassifier,
    class_report,
    digit_features,
    inception_features,
    load_classifier,
    pixel_features,
)
from scoresde.evaluation.classifier import save_classifier
from scoresde.files import read_header, read_tensors, write_tensors
from tests.conftest import seeded


def digits() -> tuple[Tensor, Tensor]:
    """Images (64, 1, 28, 28) on [-1, 1] and labels (64,)."""
    with np.load(Path(scoresde.__file__).parent / "samples" / "mnist_digits.npz") as file:
        return torch.from_numpy(file["images"])[:, None].float() / 127.5 - 1, torch.from_numpy(
            file["labels"]
        ).long()


class Bright(DigitClassifier):
    """Reads the class off the first pixel: 0.1 c for class c, certain to 1 in e^-20."""

    def forward(self, x: Tensor) -> Tensor:
        return -20 * (x.flatten(1)[:, :1] * 10 - torch.arange(10)).abs()


def bright(classes: Tensor) -> Tensor:
    return (0.1 * classes).float().reshape(-1, 1, 1, 1).expand(-1, 1, 28, 28)


class TestClassifier:
    def test_reads_the_shipped_digits(self) -> None:
        """At most two of the 64 shipped digits are read wrongly.

        33 of 10,000 test images are, so more than two of 64 would have a probability of 1e-3.
        """
        x, y = digits()
        logits = load_classifier()(x)
        assert logits.shape == (64, 10) and logits.dtype == torch.float32
        assert int((logits.argmax(1) != y).sum()) <= 2

    def test_is_frozen_small_and_stored_in_half_precision(self) -> None:
        classifier, file = (
            load_classifier(),
            Path(scoresde.__file__).parent
            / "weights"
            / "evaluation"
            / "mnist-classifier.safetensors",
        )
        assert not classifier.training and not any(p.requires_grad for p in classifier.parameters())
        assert {p.dtype for p in classifier.parameters()} == {torch.float32}
        assert 100_000 <= sum(p.numel() for p in classifier.parameters()) <= 150_000
        assert {v.dtype for v in read_tensors(file)[0].values() if v.is_floating_point()} == {
            torch.float16
        }
        assert file.stat().st_size < 500_000 and "CC BY-SA 3.0" in read_header(file)["card"]["data"]

    def test_shares_are_those_of_the_training_labels(self) -> None:
        counts = torch.tensor(
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        ).double()  # MNIST
        torch.testing.assert_close(load_classifier().shares, counts / 60000)

    def test_logits_are_linear_in_the_features(self) -> None:
        classifier, x = load_classifier(), digits()[0]
        features = classifier.features(x)
        assert features.shape == (64, 64) and float(features.square().mean()) == pytest.approx(
            1, abs=0.2
        )
        torch.testing.assert_close(classifier(x), classifier.head(features * classifier.scale))

    def test_an_image_does_not_see_its_batch(self) -> None:
        classifier, x = load_classifier(), digits()[0]
        torch.testing.assert_close(classifier(x[:1]), classifier(x)[:1])

    def test_comes_back_from_a_file(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        classifier = (
            DigitClassifier([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], {"name": "test"})
            .eval()
            .requires_grad_(False)
        )
        save_classifier(classifier, tmp_path / "c.safetensors")
        back = load_classifier(tmp_path / "c.safetensors")
        assert back.card == {"name": "test"} and torch.equal(back.shares, classifier.shares)
        torch.testing.assert_close(back(digits()[0]), classifier(digits()[0]), rtol=0.02, atol=0.02)

    def test_errors(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="there is no"):
            load_classifier(tmp_path / "none.safetensors")
        write_tensors(
            tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"format": "scoresde.prior/1"}
        )
        with pytest.raises(InputError, match=r"not a classifier.*scoresde\.prior/1"):
            load_classifier(tmp_path / "other.safetensors")
        write_tensors(
            tmp_path / "empty.safetensors",
            {"a": torch.zeros(1)},
            {"format": "scoresde.classifier/1", "shares": [1.0] * 10},
        )
        with pytest.raises(InputError, match="does not describe"):
            load_classifier(tmp_path / "empty.safetensors")
        with pytest.raises(ValueError, match="28, 28"):
            load_classifier()(torch.zeros(2, 1, 32, 32))
        with pytest.raises(ValueError, match="positive shares"):
            DigitClassifier([1.0] * 9 + [0.0])


class TestFeatures:
    def test_of_digits_are_the_classifier_s_in_any_batches(self) -> None:
        x, features = digits()[0], digit_features()
        found = features.extract(torch.cat([x] * 9))  # more than a batch of 500
        assert (
            found.shape == (576, 64)
            and found.dtype == torch.float64
            and "digits" in features.name
            and "64" in features.name
        )
        torch.testing.assert_close(
            found[-64:], load_classifier().features(x).double(), rtol=1e-4, atol=1e-5
        )

    def test_of_pixels_are_the_pixels(self) -> None:
        x = torch.randn(7, 2, 3, 4, generator=seeded(0))
        assert (
            torch.equal(pixel_features().extract(x), x.double().flatten(1))
            and pixel_features().name == "pixels"
        )

    def test_of_inception_see_colour_images_of_8_bits(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Seen(nn.Module):
            def __init__(self, **settings: object) -> None:
                super().__init__()

            def forward(self, x: Tensor) -> Tensor:
                assert x.dtype == torch.uint8 and x.shape[1:] == (3, 2, 2)
                return x.flatten(1)

        monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", Seen)
        features = inception_features()
        x = torch.tensor([-1.5, -1.0, 1.0, 3.0]).reshape(1, 1, 2, 2)
        assert (
            features.extract(x).tolist() == [[0.0, 0.0, 255.0, 255.0] * 3]
            and "Inception" in features.name
        )
        with pytest.raises(ValueError, match="1 or 3"):
            features.extract(torch.zeros(1, 2, 2, 2))

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (ModuleNotFoundError("no\nmodule"), "torch-fidelity"),
            (OSError("no network"), "its weights"),
            (RuntimeError("hash"), "its weights"),
        ],
    )
    def test_of_inception_say_what_is_missing(
        self, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
    ) -> None:
        def fail(**settings: object) -> None:
            raise error

        monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", fail)
        with pytest.raises(InputError, match=words) as found:
            inception_features()
        assert "digit_features" in str(found.value) and "\n" not in str(found.value)

    @pytest.mark.parametrize(
        "x",
        [
            torch.zeros(0, 1, 28, 28),
            torch.full((1, 1, 28, 28), torch.nan),
            torch.zeros(3, 1, 28, 28).byte(),
        ],
    )
    def test_errors(self, x: Tensor) -> None:
        with pytest.raises(ValueError, match="finite images"):
            digit_features().extract(x)


class TestClassReport:
    def test_counts_the_shipped_digits(self) -> None:
        x, y = digits()
        report = class_report(load_classifier(), x)
        expected = torch.bincount(y, minlength=10) / 64
        # two may be read wrongly
        assert float((report.shares - expected).abs().sum()) <= 2 * 2 / 64 + 1e-9
        assert report.found == 10 and not report.collapsed and 0.9 < report.confidence <= 1

    def test_divergence_is_that_of_the_shares(self) -> None:
        data = [1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10]
        classes = torch.arange(10).repeat_interleave(
            torch.tensor([10, 9, 8, 7, 6, 5, 4, 3, 2, 1]) * 10
        )
        report, p, q = (
            class_report(Bright(data), bright(classes)),
            torch.arange(10, 0, -1) / 55,
            torch.arange(1, 11) / 55,
        )
        torch.testing.assert_close(report.shares, p.double(), rtol=1e-6, atol=0)
        assert report.kl == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)
        assert report.confidence == pytest.approx(1, abs=1e-6)

    @pytest.mark.slow
    def test_of_a_perfect_generator_is_chi_squared(self) -> None:
        """2 n KL has mean 9 and variance 18 over draws of the right law."""
        classifier, generator, n, repeats = (
            Bright(list(range(1, 11))),
            seeded(0),
            2000,
            100,
        )
        values = [
            2
            * n
            * class_report(
                classifier,
                bright(torch.multinomial(classifier.shares, n, True, generator=generator)),
            ).kl
            for _ in range(repeats)
        ]
        assert abs(sum(values) / repeats - 9) < 4 * (18 / repeats) ** 0.5

    def test_found_are_those_with_a_tenth_of_their_share(self) -> None:
        """A class is found if it has a tenth of its share.

        For ten equal classes that is 1 %: one of 99 draws is enough, one of 101 is not.
        """
        assert class_report(Bright(), bright(torch.eye(99)[0])).found == 2
        report = class_report(Bright(), bright(torch.eye(101)[0]))
        assert report.found == 1 and report.collapsed

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="needs draws"):
            class_report(Bright(), torch.zeros(0, 1, 28, 28))
        with pytest.raises(ValueError, match="finite"):
            class_report(Bright(), torch.full((2, 1, 28, 28), torch.inf))
