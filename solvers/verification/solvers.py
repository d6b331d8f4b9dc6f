"""Solvers of the verification table."""

from collections.abc import Iterator, Mapping

from solvers.posterior import Guided, PosteriorSampler
from solvers.presets import verified

__all__ = ["VERIFIED"]


class _Verified(Mapping[str, PosteriorSampler]):
    """Solvers by name, as their classes declare them with ``verified``."""

    def __getitem__(self, name: str) -> PosteriorSampler:
        made = verified()[name]
        return Guided(*made) if isinstance(made, tuple) else made

    def __iter__(self) -> Iterator[str]:
        return iter(verified())

    def __len__(self) -> int:
        return len(verified())


VERIFIED: Mapping[str, PosteriorSampler] = _Verified()
"""Name -> solver with the settings of its paper where it has any; DDNM has ``power`` 2 instead."""
