"""Floating-point operations, their rates, and ratios of alternating measurements."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

__all__ = [
    "ConvShape",
    "Convolutions",
    "closest_width",
    "convolution_shapes",
    "count_flops",
    "median_ratio",
    "timed",
    "weighted_rate",
]


@dataclass(frozen=True)
class ConvShape:
    """A 3x3 convolution on a feature map.

    Args:
        inputs: Channels that come in.
        outputs: Channels that go out.
        height: Height of the map.
        width: Width of the map.
    """

    inputs: int
    outputs: int
    height: int
    width: int

    def flops(self, batch: int) -> int:
        """Operations of one forward pass, two for each multiplication with its addition."""
        return 2 * 9 * batch * self.inputs * self.outputs * self.height * self.width


def median_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """The median of the ratios first / second of measurements that were taken in turns.

    Both of a pair saw the same state of the machine, so that drifts cancel.
    """
    return statistics.median(a / b for a, b in zip(first, second, strict=True))


def weighted_rate(flops: Sequence[float], rates: Sequence[float]) -> float:
    """The rate of running all parts one after another, given the work and the rate of each."""
    return sum(flops) / sum(work / rate for work, rate in zip(flops, rates, strict=True))


def closest_width(count: Callable[[int], int], widths: Iterable[int], target: int) -> int:
    """The width whose number of parameters is closest to the target, as a ratio.

    Raises:
        ValueError: If it is more than 10 % away.
    """
    counts = {width: count(width) for width in widths}
    best = min(counts, key=lambda width: max(counts[width] / target, target / counts[width]))
    if not 0.9 < counts[best] / target < 1.1:
        raise ValueError(f"no width gives {target} parameters within 10 %: {counts}")
    return best


def count_flops(run: Callable[[], Any]) -> int:
    """Operations of a call, as torch counts those of convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


class _Watch(TorchDispatchMode):
    """Notes every 3x3 convolution, in whatever module or copy of one it happens."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[ConvShape] = Counter()
        self.dtypes: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default:
            x, weight, _, stride, _, _, transposed, _, groups = args
            if weight.shape[2:] == (3, 3) and set(stride) == {1} and not transposed and groups == 1:
                outputs, inputs = weight.shape[:2]
                self.found[ConvShape(inputs, outputs, *out.shape[-2:])] += 1
                self.dtypes[x.dtype] += 1
        return out


def convolution_shapes(run: Callable[[], Any]) -> tuple[Counter[ConvShape], torch.dtype]:
    """How often a call makes each shape of 3x3 convolution, and in which precision it does most."""
    with _Watch() as watch:
        run()
    return watch.found, watch.dtypes.most_common(1)[0][0]


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a call, until the device has finished it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


class Convolutions:
    """Plain 3x3 convolutions of given shapes, channels last, as the reference of a network.

    Args:
        shapes: How often each shape occurs.
        batch: Size of the batch.
        dtype: Precision.
        device: Device.
        backward: "none"; "input" for the gradient of the input too; "all" for that of the weights
            as well.
        least: Seconds for which each shape is measured.
    """

    def __init__(
        self,
        shapes: Counter[ConvShape],
        batch: int,
        dtype: torch.dtype,
        device: torch.device,
        backward: str = "none",
        least: float = 0.02,
    ) -> None:
        self.device, self.backward, self.least = device, backward, least
        self.counts = list(shapes.values())
        passes = {"none": 1, "input": 2, "all": 3}[backward]
        self.flops = [passes * shape.flops(batch) for shape in shapes]
        self.layers = []
        for shape in shapes:
            layer = nn.Conv2d(shape.inputs, shape.outputs, 3, padding=1)
            layer.to(device=device, dtype=dtype, memory_format=torch.channels_last)
            layer.requires_grad_(backward == "all")
            x = torch.randn(batch, shape.inputs, shape.height, shape.width)
            x = x.to(device=device, dtype=dtype, memory_format=torch.channels_last)
            self.layers.append((layer, x.requires_grad_(backward != "none")))

    def rate(self) -> float:
        """Operations per second over all convolutions, weighted by their work."""
        rates = []
        for work, (layer, x) in zip(self.flops, self.layers, strict=True):
            once = timed(lambda layer=layer, x=x: self._run(layer, x), self.device)
            repeats = max(1, round(self.least / max(once, 1e-6)))

            def several(layer: nn.Conv2d = layer, x: Tensor = x, repeats: int = repeats) -> None:
                for _ in range(repeats):
                    self._run(layer, x)

            rates.append(work * repeats / timed(several, self.device))
        weights = [n * work for n, work in zip(self.counts, self.flops, strict=True)]
        return weighted_rate(weights, rates)

    def _run(self, layer: nn.Conv2d, x: Tensor) -> None:
        with torch.set_grad_enabled(self.backward != "none"):
            y = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1)
            if self.backward != "none":
                weights = list(layer.parameters()) if self.backward == "all" else []
                torch.autograd.grad(y, [x, *weights], torch.ones_like(y))
