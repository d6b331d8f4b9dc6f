"""The solvers of the table."""

from collections.abc import Iterator, Mapping

from solvers.posterior import Guided, PosteriorSampler
from solvers.presets import verified

__all__ = ["VERIFIED"]


class _Verified(Mapping[str, PosteriorSampler]):
    """What the classes of solvers declare by ``verified``."""

    def __getitem__(self, name: str) -> PosteriorSampler:
        made = verified()[name]
        return Guided(*made) if isinstance(made, tuple) else made

    def __iter__(self) -> Iterator[str]:
        return iter(verified())

    def __len__(self) -> int:
        return len(verified())


VERIFIED: Mapping[str, PosteriorSampler] = _Verified()
"""With the settings of their papers where these have any, but for DDNM: there ``power`` is 2, see its docstring."""
