"""Training: objective, loop, configuration."""

from scoresde.training.config import LoopConfig, TrainConfig
from scoresde.training.loop import run_training
from scoresde.training.objective import NoiseLevels, denoising_score_matching
from scoresde.training.prior import build_prior, train
from scoresde.training.steps import TrainingError
from scoresde.training.task import Cost, Task

__all__ = [
    "Cost",
    "LoopConfig",
    "NoiseLevels",
    "Task",
    "TrainConfig",
    "TrainingError",
    "build_prior",
    "denoising_score_matching",
    "run_training",
    "train",
]
