"""Operators: what a camera does to a scene, one file each."""
