"""Training of score priors: objective, loop, configuration."""

from scoresde.training.config import TrainConfig
from scoresde.training.loop import TrainingError, train
from scoresde.training.objective import NoiseLevels, denoising_score_matching

__all__ = ["NoiseLevels", "TrainConfig", "TrainingError", "denoising_score_matching", "train"]
