"""Operators: the forward models of measurements, one file per kind."""
