"""Sequential Monte Carlo: posterior samplers whose draws are a weighted population."""
