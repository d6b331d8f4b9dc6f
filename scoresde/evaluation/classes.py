"""Which classes a generator draws, and how often, by a classifier."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scoresde.evaluation.classifier import DigitClassifier

__all__ = ["ClassReport", "class_report"]


@dataclass(frozen=True)
class ClassReport:
    """shares: (classes,), of the draws. data: (classes,), of the data. found: classes with at least a tenth of their share in the data.
    kl: KL(shares || data), nats; (classes - 1) / 2n is its mean over n draws of a perfect generator. confidence: mean probability of the
    class that is chosen; well below that of the data's own images where draws are between classes or none of them."""

    shares: Tensor
    data: Tensor
    found: int
    kl: float
    confidence: float

    @property
    def collapsed(self) -> bool:
        return self.found < len(self.shares)


@torch.no_grad()
def class_report(classifier: DigitClassifier, draws: Tensor) -> ClassReport:
    """Of draws (n, 1, 28, 28) on [-1, 1]. ValueError if there are none, or not all are finite."""
    if not len(draws) or not bool(torch.isfinite(draws).all()):
        raise ValueError(
            f"a report on classes needs draws, all of them finite, got a tensor of shape {tuple(draws.shape)}"
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
