"""Features in which generators are measured: a map of images to vectors, with its name.

The name is part of every result, since a distance of features means nothing without it.
"""

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
    """Map from images to feature vectors.

    Args:
        name: Name that is printed beside every number made with these features.
        function: Maps images, shape (B, ...), on [-1, 1], to features, shape (B, F), of any dtype.
        batch: Images per call of the function.
        device: Device on which the function computes.

    Example:
        >>> import torch
        >>> from scoresde.evaluation import Features
        >>> means = Features("means", lambda x: x.flatten(1).mean(1, keepdim=True))
        >>> means.extract(torch.ones(3, 1, 4, 4)).flatten()
        tensor([1., 1., 1.], dtype=torch.float64)
    """

    name: str
    function: Callable[[Tensor], Tensor]
    batch: int = 500
    device: str | torch.device = "cpu"

    @torch.no_grad()
    def extract(self, x: Tensor) -> Tensor:
        """Compute the features of images.

        Args:
            x: Images, shape (N, ...), floating point, on [-1, 1].

        Returns:
            Features, shape (N, F), float64, on the CPU.

        Raises:
            ValueError: If there are no images, not all are finite, or they are integers.
        """
        if (
            x.ndim < 2
            or not len(x)
            or not x.is_floating_point()
            or not bool(torch.isfinite(x).all())
        ):
            raise ValueError(
                "features need a batch of finite images on [-1, 1], "
                f"got {x.dtype} of shape {tuple(x.shape)}"
            )
        return torch.cat(
            [
                self.function(part.detach().to(self.device)).double().cpu()
                for part in x.split(self.batch)
            ]
        )


def digit_features(device: str | torch.device = "cpu") -> Features:
    """Build the features of digits: the 64 features of the embedded classifier.

    Args:
        device: Device on which they are computed.

    Returns:
        Features of images (N, 1, 28, 28).
    """
    classifier = load_classifier(device=device)
    name = f"{FEATURES} features of a classifier of digits (mnist-classifier)"
    return Features(name, lambda x: classifier.features(x.float()), device=device)


def pixel_features() -> Features:
    """Build features that are the pixels themselves.

    Returns:
        Features of images of any shape.
    """
    return Features("pixels", lambda x: x.flatten(1))


def inception_features(device: str | torch.device = "cpu") -> Features:
    """Build the 2048 Inception-v3 features of the usual FID (Heusel et al. 2017).

    Images are rounded to 8 bits first. They need the ``torch-fidelity`` package, which fetches the
    weights at the first use.

    Args:
        device: Device on which they are computed.

    Returns:
        Features of images (N, 1 or 3, H, W).

    Raises:
        InputError: If the package or its weights are not available.
    """
    from torchmetrics.image import fid

    try:
        network = fid.NoTrainInceptionV3(name="inception-v3-compat", features_list=["2048"]).to(
            device
        )
    except (ImportError, OSError, RuntimeError) as error:
        # the package is not installed, or its weights cannot be fetched or are incomplete
        missing = (
            "the package torch-fidelity (pip install torch-fidelity)"
            if isinstance(error, ImportError)
            else "its weights"
        )
        raise InputError(
            f"Inception features need {missing}: {' '.join(str(error).split())}; "
            "for MNIST use digit_features()"
        ) from None

    def features(x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise ValueError(
                f"Inception features need images (B, 1 or 3, H, W), got {tuple(x.shape)}"
            )
        return network(to_bytes(x).expand(-1, 3, -1, -1))

    return Features("InceptionV3, 2048", features, batch=64, device=device)


def check_features(real: Tensor, fake: Tensor, least: int = 2) -> tuple[Tensor, Tensor]:
    """Check two sets of features and move both by the vector that makes the real mean 0.

    The shift changes no distance and reduces rounding errors.

    Args:
        real: Features of real samples, shape (n, F).
        fake: Features of generated samples, shape (m, F).
        least: Smallest number of rows of each.

    Returns:
        Both matrices, moved, in float64, on the device of ``real``.

    Raises:
        ValueError: If the features are not finite matrices with at least ``least`` rows and the
            same number of columns.
    """
    for name, x in (("real", real), ("fake", fake)):
        if x.ndim != 2 or len(x) < least or not x.shape[1] or not bool(torch.isfinite(x).all()):
            raise ValueError(
                f"the {name} features must be finite, (n, F) with n of at least {least}, "
                f"got shape {tuple(x.shape)}"
            )
    if real.shape[1] != fake.shape[1]:
        raise ValueError(
            f"the real images have {real.shape[1]} features, the fake ones {fake.shape[1]}"
        )
    real, fake = real.detach().double(), fake.detach().to(real.device).double()
    centre = real.mean(0)
    return real - centre, fake - centre
