"""Training: objective, loop, configuration, averages of weights."""

from scoresde.training.config import LoopConfig, TrainConfig
from scoresde.training.loop import run_training
from scoresde.training.objective import NoiseLevels, denoising_score_matching, loss_weight
from scoresde.training.prior import build_prior, train
from scoresde.training.recipes import RECIPES
from scoresde.training.snapshots import average_weights
from scoresde.training.steps import TrainingError
from scoresde.training.task import Cost, Task

__all__ = [
    "RECIPES",
    "Cost",
    "LoopConfig",
    "NoiseLevels",
    "Task",
    "TrainConfig",
    "TrainingError",
    "average_weights",
    "build_prior",
    "denoising_score_matching",
    "loss_weight",
    "run_training",
    "train",
]
