"""Numbers that several layers share."""

__all__ = ["TILE", "TILE_OVERLAP"]

TILE = 384
"""Largest side, in pixels, that a network is given at once by default."""

TILE_OVERLAP = 48
"""Overlap of tiles in pixels, at most; a quarter of a smaller tile."""
