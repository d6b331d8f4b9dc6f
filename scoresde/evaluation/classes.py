"""Classes that a generator draws and their frequencies, by a classifier."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.evaluation.classifier import DigitClassifier

__all__ = ["ClassReport", "class_report"]


@dataclass(frozen=True)
class ClassReport:
    """Frequencies of the classes among the draws of a generator.

    Args:
        shares: Share of each class among the draws, shape (classes,).
        data: Share of each class in the data, shape (classes,).
        found: Number of classes with at least a tenth of their share in the data.
        kl: KL(shares || data) in nats. For n draws of a perfect generator its mean is
            (classes - 1) / 2n.
        confidence: Mean probability of the predicted class. It is well below that of the data where
            draws lie between classes or belong to none.
    """

    shares: Tensor
    data: Tensor
    found: int
    kl: float
    confidence: float

    @property
    def collapsed(self) -> bool:
        """True if a class is missing, or nearly so."""
        return self.found < len(self.shares)


@torch.no_grad()
def class_report(classifier: DigitClassifier, draws: Tensor) -> ClassReport:
    """Classify the draws of a generator of digits.

    Args:
        classifier: Classifier of digits; its ``shares`` are those of the data.
        draws: Draws, shape (n, 1, 28, 28), on [-1, 1].

    Returns:
        Frequencies of the classes among the draws, on the CPU.

    Raises:
        ValueError: If there are no draws, or not all are finite.

    Example:
        >>> import torch
        >>> from scoresde.evaluation import class_report, load_classifier
        >>> ones = torch.full((20, 1, 28, 28), -1.0)
        >>> ones[..., 4:24, 13:15] = 1.0  # a vertical stroke
        >>> report = class_report(load_classifier(), ones)
        >>> report.found, int(report.shares.argmax()), report.collapsed
        (1, 1, True)
    """
    if not len(draws) or not bool(torch.isfinite(draws).all()):
        raise ValueError(
            "a class report needs draws, all of them finite, "
            f"got a tensor of shape {tuple(draws.shape)}"
        )
    data = classifier.shares.cpu()
    p = torch.cat(
        [
            classifier(x.detach().to(classifier.head.weight)).double().softmax(1).cpu()
            for x in draws.split(500)
        ]
    )
    confidence, chosen = p.max(1)
    shares = torch.bincount(chosen, minlength=len(data)).double() / len(draws)
    kl = float(torch.xlogy(shares, shares / data).sum())
    return ClassReport(
        shares, data, int((shares >= 0.1 * data).sum()), kl, float(confidence.mean())
    )
