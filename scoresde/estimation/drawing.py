"""The solver that an estimation draws with."""

from solvers import PosteriorSampler, make_solver

__all__ = ["drawing_solver"]


def drawing_solver(solver: PosteriorSampler | None, steps: int | None = None) -> PosteriorSampler:
    """Give the solver that was asked for, or the default one, with independent draws.

    The information that is missing, and with it every standard error, is estimated from draws that
    are independent of each other.

    Args:
        solver: Sampler of the posterior; None for "warm-start".
        steps: Steps of the default one; None for its own number.

    Returns:
        The solver.

    Example:
        >>> drawing_solver(None, 6).balanced
        False
    """
    return (make_solver("warm-start", steps) if solver is None else solver).independently()
