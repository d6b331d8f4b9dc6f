"""Priors: networks, Gaussian mixtures and wrappers, all of which denoise."""
