"""Posterior sampling in a latent space."""
