"""Numbers that several layers share."""

__all__ = ["TILE", "TILE_OVERLAP"]

TILE = 544
"""Largest side, in pixels, that a network is given at once by default.

Pictures of 512x512 stay whole, and those of 1024x1024 have four tiles.
"""

TILE_OVERLAP = 48
"""Overlap of tiles in pixels, at most; a quarter of a smaller tile."""
