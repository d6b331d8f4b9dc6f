"""Small classifier of handwritten digits.

It provides the features in which generators of digits are measured, and counts the classes that
they draw.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from scoresde.errors import InputError
from scoresde.files import WEIGHTS, read_tensors, write_tensors

__all__ = ["CLASSES", "FEATURES", "DigitClassifier", "load_classifier", "save_classifier"]

CLASSES, FEATURES = 10, 64
_FORMAT = "scoresde.classifier/1"
_EMBEDDED = WEIGHTS / "evaluation" / "mnist-classifier.safetensors"


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    # batch normalisation, unlike in the priors: training takes minutes, and in evaluation mode
    # it is one affine map
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


class DigitClassifier(nn.Module):
    """Classifier of digits: five convolutions, a max pooling, 64 features and a linear map.

    The features are divided by ``scale``, the root mean square of the inputs of the last linear map
    over the training data. Their mean square there is then 1, which fixes the unit of a kernel
    distance.

    Args:
        shares: Shares of the classes in the training data, shape (10,), positive; None for equal
            shares.
        card: Model card, how the classifier was trained, as plain JSON values; None for an empty
            one.

    Attributes:
        scale: Root mean square of the inputs of the last linear map over the training data, shape
            ().

    Raises:
        ValueError: If there are not ten positive, finite shares.
    """

    shares: Tensor
    scale: Tensor

    def __init__(
        self, shares: Sequence[float] | None = None, card: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        p = torch.tensor(list(shares or [1.0] * CLASSES), dtype=torch.float64)
        if p.shape != (CLASSES,) or not bool((p > 0).all() & p.isfinite().all()):
            raise ValueError(
                f"a classifier of digits needs {CLASSES} positive shares of the classes, "
                f"got {p.tolist()}"
            )
        self.register_buffer("shares", p / p.sum(), persistent=False)
        self.register_buffer("scale", torch.ones(()))
        self.card = dict(card or {})
        self.body = nn.Sequential(
            _convolution(1, 16),
            _convolution(16, 32, 2),
            _convolution(32, 32),
            _convolution(32, 64, 2),
            _convolution(64, 64),
            nn.AdaptiveMaxPool2d(3),
            nn.Flatten(),
            nn.Linear(64 * 9, FEATURES),
            nn.SiLU(),
        )
        self.head = nn.Linear(FEATURES, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Compute the features of images.

        Args:
            x: Images, shape (B, 1, 28, 28), on [-1, 1].

        Returns:
            Inputs of the last linear map divided by ``scale``, shape (B, 64).

        Raises:
            ValueError: If the images have another shape.
        """
        return self._hidden(x) / self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits of the classes.

        Args:
            x: Images, shape (B, 1, 28, 28), on [-1, 1].

        Returns:
            Logits, shape (B, 10).

        Raises:
            ValueError: If the images have another shape.
        """
        return self.head(self._hidden(x))

    def _hidden(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (1, 28, 28):
            raise ValueError(
                f"a classifier of digits takes images (B, 1, 28, 28), got {tuple(x.shape)}"
            )
        return self.body(x)


def save_classifier(classifier: DigitClassifier, path: str | Path) -> None:
    """Write a classifier to a safetensors file.

    The weights are stored in float16, the shares and the card in the header.

    Args:
        classifier: Classifier to write.
        path: Path of the file.

    Raises:
        InputError: If the file cannot be written.
    """
    header = {"format": _FORMAT, "shares": classifier.shares.tolist(), "card": classifier.card}
    tensors = classifier.state_dict()
    write_tensors(
        path, {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, header
    )


def load_classifier(
    path: str | Path | None = None, device: str | torch.device = "cpu"
) -> DigitClassifier:
    """Load a classifier of digits.

    Args:
        path: File that :func:`save_classifier` wrote; None for the classifier that ships with the
            package.
        device: Device of the classifier.

    Returns:
        The classifier in evaluation mode, in float32, with frozen parameters.

    Raises:
        InputError: If the file is not a classifier that this version reads.
    """
    path = Path(path or _EMBEDDED)
    tensors, header = read_tensors(path)
    if header.get("format") != _FORMAT:
        raise InputError(
            f"{path} is not a classifier that this version reads "
            f"(format {header.get('format')!r}, needs {_FORMAT!r})"
        )
    try:
        classifier = DigitClassifier(header["shares"], header.get("card"))
        classifier.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} does not describe a classifier that can be built: "
            f"{' '.join(str(error).split())}"
        ) from None
    return classifier.to(device).eval().requires_grad_(False)
