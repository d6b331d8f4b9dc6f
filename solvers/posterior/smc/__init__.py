"""Sequential Monte Carlo: posterior samplers that weigh and resample a population of particles."""
