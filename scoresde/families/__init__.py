"""The other families of generative models, and the score prior beside them, on one interface."""

from scoresde.families.autoregressive.model import Autoregressive, AutoregressiveConfig
from scoresde.families.base import DensityKind, GenerativeModel, LogProb
from scoresde.families.diffusion import Diffusion, DiffusionConfig
from scoresde.families.flow.model import Flow, FlowConfig
from scoresde.families.gan.model import GAN, GANConfig
from scoresde.families.store import load_model, save_model
from scoresde.families.training import FitConfig, fit
from scoresde.families.vae.model import VAE, VAEConfig

__all__ = [
    "GAN", "VAE", "Autoregressive", "AutoregressiveConfig", "DensityKind", "Diffusion", "DiffusionConfig", "FitConfig", "Flow",
    "FlowConfig", "GANConfig", "GenerativeModel", "LogProb", "VAEConfig", "fit", "load_model", "save_model",
]  # fmt: skip
