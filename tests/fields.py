"""Random pictures with the spectra of photographs."""

import torch
from torch import Tensor

from tests.conftest import seeded

__all__ = ["power_law_field"]


def power_law_field(
    number: int, side: int, channels: int = 3, slope: float = 2.0, strength: float = 0.02
) -> Tensor:
    """A field (1, channels, side, side) whose power falls as the frequency to minus the slope."""
    f = torch.fft.fftfreq(side)
    distance = torch.hypot(f[:, None], f)
    distance[0, 0] = 1.0
    white = torch.fft.fft2(torch.randn(1, channels, side, side, generator=seeded(number)))
    return strength * torch.fft.ifft2(white * distance ** (-slope / 2)).real
