"""What a generator is measured in: a map of images to vectors, with its name, for no distance of features means anything without it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.data.images import to_bytes
from scoresde.errors import InputError
from scoresde.evaluation.classifier import FEATURES, load_classifier

__all__ = ["Features", "check_features", "digit_features", "inception_features", "pixel_features"]


@dataclass(frozen=True)
class Features:
    """name: printed beside every number made with them. function: x (B, ...) on [-1, 1] -> (B, F) of any type. batch: so many at once.
    device: where function computes."""

    name: str
    function: Callable[[Tensor], Tensor]
    batch: int = 500
    device: str | torch.device = "cpu"

    @torch.no_grad()
    def extract(self, x: Tensor) -> Tensor:
        """Images (N, ...) on [-1, 1] -> (N, F), float64, on the CPU. ValueError if there are none, or not all are finite, or they are
        integers."""
        if (
            x.ndim < 2
            or not len(x)
            or not x.is_floating_point()
            or not bool(torch.isfinite(x).all())
        ):
            raise ValueError(
                f"features are those of a batch of finite images on [-1, 1], got {x.dtype} of shape {tuple(x.shape)}"
            )
        return torch.cat(
            [
                self.function(part.detach().to(self.device)).double().cpu()
                for part in x.split(self.batch)
            ]
        )


def digit_features(device: str | torch.device = "cpu") -> Features:
    """Of (N, 1, 28, 28): the 64 features of the embedded classifier of digits."""
    classifier = load_classifier(device=device)
    name = f"{FEATURES} features of a classifier of digits (mnist-classifier)"
    return Features(name, lambda x: classifier.features(x.float()), device=device)


def pixel_features() -> Features:
    """Of anything: its entries."""
    return Features("pixels", lambda x: x.flatten(1))


def inception_features(device: str | torch.device = "cpu") -> Features:
    """Of (N, 1 or 3, H, W): the 2048 of the Inception-v3 network that the literature's FID is made with (Heusel et al. 2017), of images
    rounded to 8 bits.

    Needs the ``torch-fidelity`` package, which fetches the weights at the first use. InputError where either cannot be had.
    """
    from torchmetrics.image import fid

    try:
        network = fid.NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"]).to(
            device
        )
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # not installed, no way to the weights, or half of them
        missing = (
            "the package torch-fidelity (pip install torch-fidelity)"
            if isinstance(error, ImportError)
            else "its weights"
        )
        raise InputError(
            f"features of Inception need {missing}: {' '.join(str(error).split())}; digit_features() serve for MNIST"
        ) from None

    def features(x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(
                f"features of Inception are those of images (B, 1 or 3, H, W), got {tuple(x.shape)}"
            )
        return network(to_bytes(x).expand(-1, 3, -1, -1))

    return Features("InceptionV3, 2048", features, batch=64, device=device)


def check_features(real: Tensor, fake: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    """Both (n, F) in float64, moved by the same vector to where the real mean is 0, which changes no distance and spares digits. ValueError
    if they are not finite matrices of ``least`` rows and as many columns as each other."""
    for name, x in (("real", real), ("fake", fake)):
        if x.ndim != 2 or len(x) < least or not x.shape[1] or not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"the {name} features must be finite, (n, F) with n of at least {least}, got shape {tuple(x.shape)}"
            )
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"the real images have {real.shape[1]} features, the fake ones {fake.shape[1]}"
        )
    real, fake = real.detach().double(), fake.detach().to(real.device).double()
    centre = real.mean(0)
    return real - centre, fake - centre
