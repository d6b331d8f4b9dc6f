"""Priors: everything that can denoise."""
