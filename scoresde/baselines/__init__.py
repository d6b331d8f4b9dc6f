"""The other families of generative models, and the score prior beside them, on one interface."""

from scoresde.baselines.autoregressive import Autoregressive, AutoregressiveConfig
from scoresde.baselines.base import DensityKind, GenerativeModel, LogProb
from scoresde.baselines.diffusion import Diffusion, DiffusionConfig
from scoresde.baselines.flow import Flow, FlowConfig
from scoresde.baselines.gan import GAN, GANConfig
from scoresde.baselines.store import load_model, save_model
from scoresde.baselines.training import FitConfig, fit
from scoresde.baselines.vae import VAE, VAEConfig

__all__ = [
    "GAN", "VAE", "Autoregressive", "AutoregressiveConfig", "DensityKind", "Diffusion", "DiffusionConfig", "FitConfig", "Flow",
    "FlowConfig", "GANConfig", "GenerativeModel", "LogProb", "VAEConfig", "fit", "load_model", "save_model",
]  # fmt: skip
