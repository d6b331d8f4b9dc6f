"""What the tests of samplers, likelihoods and bounds share."""

import pytest
import torch

from scoresde import EDMSDE, SDE, VESDE, VPSDE, CosineVPSDE, FlowMatchingSDE, SubVPSDE

F64 = torch.float64
SDES: list[SDE] = [VPSDE(), SubVPSDE(), CosineVPSDE(), VESDE(), EDMSDE(), FlowMatchingSDE()]
each_sde = pytest.mark.parametrize("sde", SDES, ids=lambda s: type(s).__name__)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
