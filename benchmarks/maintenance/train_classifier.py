"""Train the classifier of digits that judges generators of MNIST; a few minutes on one core.

    python benchmarks/maintenance/train_classifier.py --data PATH/mnist.npz

Its features and classes are used by scoresde.evaluation.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import scoresde
from scoresde.data.datasets import read_arrays
from scoresde.errors import InputError
from scoresde.evaluation.classifier import (
    CLASSES,
    DigitClassifier,
    load_classifier,
    save_classifier,
)
from scoresde.files import write_atomically

WEIGHTS = Path(scoresde.__file__).parent / "weights" / "evaluation"

CARD = """# mnist-classifier

A classifier of handwritten digits: `scoresde.evaluation.load_classifier()`.

| | |
|---|---|
| network | {parameters:,} parameters: 3x3 convolutions 1-16-32-32-64-64, each with batch \
normalisation and SiLU, two of stride 2; maxima to 3x3, linear map to 64, SiLU (over their root \
mean square: the features), linear map to 10 logits |
| input | 28x28 grey, white on black, k/127.5 - 1 |
| data | MNIST (LeCun, Cortes and Burges), {images:,} training images, shifted at random by up to \
{shift} pixels. Licence: CC BY-SA 3.0 |
| training | cross-entropy, AdamW, cosine learning rate from {rate:g}, batches of {batch}, \
{epochs} epochs; seed {seed} |
| command | `python benchmarks/maintenance/train_classifier.py --data mnist.npz` |
| time | {minutes:.1f} minutes on one CPU core; no GPU |
| stored | float16 safetensors, {size:.2f} MB; computed in float32 |
| test accuracy | {accuracy:.2%}, {wrong} of {tested:,} test images wrong, as stored; the last \
epoch, not chosen by the test images |

## Intended use and limits

Its 64 features replace those of an Inception network in Fréchet and kernel distances, precision,
recall, density and coverage of generators of MNIST, and its classes count the draws of such a
generator. It is not Inception: distances by these features do not compare with those of the
literature by Inception's, only with others by this same file. It has seen only digits, and may be
certain about other images (it takes white noise for an 8).
"""


def labels(path: Path, key: str) -> Tensor:
    """Labels, (N,) int64."""
    with np.load(path, allow_pickle=False) as file:
        if key not in file.files:
            raise InputError(f"{path} has no array {key!r}")
        return torch.from_numpy(file[key].astype(np.int64))


def images(path: Path, key: str) -> Tensor:
    """Images, (N, 1, 28, 28) on [-1, 1]."""
    return torch.from_numpy(read_arrays(path, key)).permute(0, 3, 1, 2).float() / 127.5 - 1


def shifted(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Move each of (B, 1, H, W) by up to ``most`` pixels in both directions, padded with black."""
    H, W = x.shape[-2:]
    padded = F.pad(x, (most,) * 4, value=-1.0)[:, 0]
    down, right = torch.randint(2 * most + 1, (2, len(x), 1, 1), generator=generator)
    b, i, j = (
        torch.arange(len(x))[:, None, None],
        torch.arange(H)[None, :, None],
        torch.arange(W)[None, None],
    )
    return padded[b, i + down, j + right][:, None]


def accuracy(classifier: DigitClassifier, x: Tensor, y: Tensor) -> float:
    with torch.no_grad():
        found = torch.cat([classifier(part).argmax(1) for part in x.split(500)])
    return float((found == y).double().mean())


@torch.no_grad()
def feature_scale(classifier: DigitClassifier, x: Tensor) -> Tensor:
    """Root mean square of the input of the last linear map, ()."""
    return (
        torch.stack([classifier.body(part).square().mean() for part in x.split(500)]).mean().sqrt()
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="mnist.npz with train_images, train_labels, test_images, test_labels",
    )
    parser.add_argument("--out", type=Path, default=WEIGHTS / "mnist-classifier.safetensors")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--shift", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    x, y = images(a.data, "train_images"), labels(a.data, "train_labels")
    test_x, test_y = images(a.data, "test_images"), labels(a.data, "test_labels")

    begun, generator = time.perf_counter(), torch.Generator().manual_seed(a.seed)
    torch.manual_seed(a.seed)  # for the fresh weights
    classifier = DigitClassifier(torch.bincount(y, minlength=CLASSES).tolist()).to(
        memory_format=torch.channels_last
    )  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(classifier.parameters(), a.rate, weight_decay=0.02)
    steps = a.epochs * (len(x) // a.batch)
    warm = min(200, steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda k: min(1.0, (k + 1) / (warm + 1)) * (1 + math.cos(math.pi * k / steps)) / 2,
    )
    for epoch in range(a.epochs):
        total = 0.0
        for chosen in torch.randperm(len(x), generator=generator).split(a.batch)[
            : len(x) // a.batch
        ]:
            batch = shifted(x[chosen], a.shift, generator).to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(classifier(batch).float(), y[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        loss, seconds = total / (len(x) // a.batch), time.perf_counter() - begun
        print(f"epoch {epoch + 1}: loss {loss:.4f}, {seconds:.0f} s", flush=True)
    minutes = (time.perf_counter() - begun) / 60
    classifier.half().float().eval()  # as it will be stored
    classifier.scale.copy_(feature_scale(classifier, x))

    classifier.card = {
        "summary": "classifier of handwritten digits, 28x28 grey; trained on MNIST",
        "data": "MNIST, CC BY-SA 3.0",
        "seed": a.seed,
        "epochs": a.epochs,
        "batch": a.batch,
        "rate": a.rate,
        "shift": a.shift,
    }
    save_classifier(classifier, a.out)
    stored = load_classifier(a.out)
    right = accuracy(stored, test_x, test_y)
    text = CARD.format(
        parameters=sum(p.numel() for p in stored.parameters()),
        images=len(x),
        minutes=minutes,
        size=a.out.stat().st_size / 1e6,
        accuracy=right,
        wrong=round((1 - right) * len(test_y)),
        tested=len(test_y),
        **vars(a),
    )
    write_atomically(
        a.out.with_suffix(".md"), lambda temporary: temporary.write_text(text, encoding="utf-8")
    )
    print(f"test accuracy {right:.4f}; wrote {a.out.name}, {a.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
