"""Training of score priors: objective, loop, configuration."""

from scoresde.training.config import TrainConfig
from scoresde.training.loop import train
from scoresde.training.objective import NoiseLevels, denoising_score_matching
from scoresde.training.steps import TrainingError

__all__ = ["NoiseLevels", "TrainConfig", "TrainingError", "denoising_score_matching", "train"]
