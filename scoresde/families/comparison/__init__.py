"""Comparison of the families of generative models at equal cost."""
