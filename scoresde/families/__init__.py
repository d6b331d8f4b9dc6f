"""VAE, GAN, flow, autoregressive model and diffusion model on one interface."""

from scoresde.families.autoregressive.model import Autoregressive, AutoregressiveConfig
from scoresde.families.base import DensityKind, GenerativeModel, LogProb
from scoresde.families.diffusion import Diffusion, DiffusionConfig
from scoresde.families.flow.model import Flow, FlowConfig
from scoresde.families.gan.model import GAN, GANConfig
from scoresde.families.store import load_model, save_model
from scoresde.families.training import train_model
from scoresde.families.vae.model import VAE, VAEConfig
from scoresde.training.config import LoopConfig

__all__ = [
    "GAN",
    "VAE",
    "Autoregressive",
    "AutoregressiveConfig",
    "DensityKind",
    "Diffusion",
    "DiffusionConfig",
    "Flow",
    "FlowConfig",
    "GANConfig",
    "GenerativeModel",
    "LogProb",
    "LoopConfig",
    "VAEConfig",
    "load_model",
    "save_model",
    "train_model",
]
