"""A small classifier of handwritten digits: whose features a generator of digits is measured by, and which counts the classes it draws."""

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
    # normalised over the batch, unlike the priors: it trains in minutes, and in evaluation mode is one affine map
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU()
    )


class DigitClassifier(nn.Module):
    """x (B, 1, 28, 28) on [-1, 1] -> logits (B, 10): five 3x3 convolutions to 7x7 pixels, maxima to 3x3, 64 features, a linear map.

    shares: (10,), positive, of the classes in the data that it learnt from; equal if None. card: how it was made, plain values. scale: (),
    the root mean square of the inputs of the last linear map over that data, so that the features have mean square 1 there: the kernel of
    a kernel distance has a unit.
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
                f"a classifier of digits needs {CLASSES} positive shares of the classes, got {p.tolist()}"
            )
        self.register_buffer("shares", p / p.sum(), persistent=False)
        self.register_buffer("scale", torch.ones(()))
        self.card = dict(card or {})
        self.body = nn.Sequential(
            _convolution(1, 16), _convolution(16, 32, 2), _convolution(32, 32), _convolution(32, 64, 2), _convolution(64, 64),
            nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(64 * 9, FEATURES), nn.SiLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """(B, 1, 28, 28) -> (B, 64), the inputs of the last linear map over ``scale``."""
        return self._hidden(x) / self.scale

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self._hidden(x))

    def _hidden(self, x: Tensor) -> Tensor:
        if x.shape[1:] != (1, 28, 28):
            raise ValueError(
                f"a classifier of digits takes images (B, 1, 28, 28), got {tuple(x.shape)}"
            )
        return self.body(x)


def save_classifier(classifier: DigitClassifier, path: str | Path) -> None:
    """Write the weights in float16, and the shares and the card in the header."""
    header = {"format": _FORMAT, "shares": classifier.shares.tolist(), "card": classifier.card}
    tensors = classifier.state_dict()
    write_tensors(
        path, {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, header
    )


def load_classifier(
    path: str | Path | None = None, device: str | torch.device = "cpu"
) -> DigitClassifier:
    """The embedded classifier, or the one in a file that :func:`save_classifier` wrote. Frozen, in evaluation mode, float32."""
    path = Path(path or _EMBEDDED)
    tensors, header = read_tensors(path)
    if header.get("format") != _FORMAT:
        raise InputError(
            f"{path} is not a classifier that this version reads (format {header.get('format')!r}, needs {_FORMAT!r})"
        )
    try:
        classifier = DigitClassifier(header["shares"], header.get("card"))
        classifier.load_state_dict(
            {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} does not describe a classifier that can be built: {' '.join(str(error).split())}"
        ) from None
    return classifier.to(device).eval().requires_grad_(False)
