"""Modules of well-known projects as priors: their conventions, written down once.

Each function takes a module with its weights and returns an ordinary prior. Weights come from
safetensors, or from pickles through :func:`scoresde.priors.adapted.read_weights`.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from problems.checks import check_choice, check_number
from scoresde.priors.adapted.convention import Convention, Passing
from scoresde.priors.adapted.prior import AdaptedPrior
from scoresde.priors.adapted.schedules import DiscreteSchedule, FunctionSchedule
from scoresde.sde import EDMSDE, SDE, VESDE

__all__ = [
    "from_azula",
    "from_deepinv",
    "from_dncnn",
    "from_drunet",
    "from_edm",
    "from_ffdnet_like",
    "from_guided_diffusion",
    "from_score_sde",
]

_EIGHT_BIT = 255.0


class _Mean(nn.Module):
    """The mean that a module of azula predicts."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x_t: Tensor, t: Tensor, **conditions: Any) -> Tensor:
        """Compute E[x_0 | x_t]."""
        return cast(Tensor, self.denoiser(x_t, t, **conditions).mean)


def _frozen(prior: AdaptedPrior) -> AdaptedPrior:
    """The prior in evaluation mode: dropout off, no gradients of weights."""
    prior.requires_grad_(False)
    return prior.eval()


def from_guided_diffusion(
    network: nn.Module,
    shape: tuple[int, ...],
    alphas_cumprod: Sequence[float] | Tensor | None = None,
    *,
    learn_sigma: bool = True,
    label: int | None = None,
    multiple: int | None = None,
) -> AdaptedPrior:
    """Use a network of guided-diffusion (ADM, Dhariwal and Nichol 2021) as a prior.

    The network predicts the noise from pictures on [-1, 1], as ``model(x, index, y=label)``.

    Args:
        network: The ``UNetModel``.
        shape: Shape of one sample, (C, H, W).
        alphas_cumprod: Schedule of the training; None for the linear one of 1000 steps, from 1e-4
            to 0.02.
        learn_sigma: Whether the network also returns a variance, which is dropped.
        label: Class of a conditional network; None for an unconditional one.
        multiple: Sides are padded to multiples of this number; None for what the number of levels
            of the network asks for (32 if it does not say).

    Returns:
        The prior, frozen.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import from_guided_diffusion
        >>> class Network(torch.nn.Module):
        ...     def forward(self, x, timesteps, y=None):
        ...         return torch.cat([0 * x, 0 * x], 1)  # no noise at all, and a variance
        >>> prior = from_guided_diffusion(Network(), (3, 8, 8), multiple=4)
        >>> x = torch.rand(1, 3, 9, 7)
        >>> torch.allclose(prior.denoise(x, 0.5), x)
        True
    """
    schedule = (
        DiscreteSchedule.from_betas(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
        if alphas_cumprod is None
        else DiscreteSchedule.from_alphas_cumprod(alphas_cumprod)
    )
    if multiple is None:
        levels = getattr(network, "channel_mult", None)
        multiple = 2 ** (len(levels) - 1) if levels else 32
    convention = Convention(
        "eps",
        schedule,
        "index",
        extra_outputs=shape[0] if learn_sigma else 0,
        multiple=multiple,
    )
    conditions = {} if label is None else {"y": torch.tensor([label])}
    return _frozen(AdaptedPrior(network, convention, shape, conditions=conditions))


def from_edm(
    network: nn.Module,
    shape: tuple[int, ...],
    *,
    preconditioned: bool = True,
    sigma_data: float = 0.5,
    label: int | None = None,
    trained: tuple[float, float] = (0.002, 80.0),
) -> AdaptedPrior:
    """Use a network of EDM (Karras et al. 2022) as a prior.

    Args:
        network: A preconditioned network, ``net(x, sigma, class_labels)``, that returns the
            denoised picture; or the network inside, ``net(c_in x, ln(sigma)/4, class_labels)``.
        shape: Shape of one sample, (C, H, W).
        preconditioned: Whether the network is the preconditioned one.
        sigma_data: Standard deviation of the data, for the network inside.
        label: Class of a conditional network, which must have the attribute ``label_dim``; None for
            no class.
        trained: Smallest and largest noise level of the training.

    Returns:
        The prior, frozen, for pictures of the size of the training.

    Raises:
        ValueError: If the network has no such class.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import from_edm
        >>> class Network(torch.nn.Module):
        ...     def forward(self, x, sigma, class_labels=None):
        ...         return x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)
        >>> prior = from_edm(Network(), (1, 4, 4))
        >>> float(prior.denoise(torch.ones(1, 1, 4, 4), 1.0).mean())
        0.5
    """
    conditions: dict[str, Any] = {}
    if label is not None:
        classes = int(getattr(network, "label_dim", 0))
        if not 0 <= label < classes:
            raise ValueError(f"the network has {classes} classes, got the label {label}")
        one_hot = torch.nn.functional.one_hot(torch.tensor([label]), classes).float()
        conditions["class_labels"] = one_hot
    convention = Convention(
        "x0" if preconditioned else "edm",
        EDMSDE(),
        "ratio" if preconditioned else "edm",
        sigma_data=sigma_data,
        trained=trained,
        fixed_size=True,
    )
    return _frozen(AdaptedPrior(network, convention, shape, conditions=conditions))


def from_score_sde(
    network: nn.Module,
    sde: SDE,
    shape: tuple[int, ...],
    *,
    centered: bool | None = None,
    multiple: int = 1,
) -> AdaptedPrior:
    """Use a network of score_sde (Song et al. 2021), trained with continuous times, as a prior.

    Networks of the VE SDE return the score and take the noise level; those of the VP and sub-VP
    SDEs return the noise and take 999 t.

    Args:
        network: The network, ``model(x, label)``, without ``DataParallel`` around it.
        sde: SDE of the training, with its settings.
        shape: Shape of one sample, (C, H, W).
        centered: Whether the network works on [-1, 1] (``data.centered`` of its configuration)
            instead of [0, 1]; None for what the authors used with the SDE, [0, 1] for VE.
        multiple: Sides are padded to multiples of this number.

    Returns:
        The prior, frozen.

    Example:
        >>> import torch
        >>> from scoresde import VESDE
        >>> from scoresde.priors.adapted import from_score_sde
        >>> class Score(torch.nn.Module):  # of data that are zero everywhere
        ...     def forward(self, x, sigma):
        ...         return -x / sigma.reshape(-1, 1, 1, 1) ** 2
        >>> prior = from_score_sde(Score(), VESDE(), (1, 4, 4), centered=True)
        >>> bool((prior.denoise(torch.ones(1, 1, 4, 4), 0.5).abs() < 1e-6).all())
        True
    """
    exploding = isinstance(sde, VESDE)
    on_symmetric = not exploding if centered is None else centered
    convention = Convention(
        "score" if exploding else "eps",
        sde,
        "sigma" if exploding else "t",
        time_scale=1.0 if exploding else 999.0,
        value_range=(-1.0, 1.0) if on_symmetric else (0.0, 1.0),
        multiple=multiple,
    )
    return _frozen(AdaptedPrior(network, convention, shape))


def _of_unit_range(
    network: Callable[..., Any],
    shape: tuple[int, ...],
    prediction: str,
    passing: Passing,
    trained: tuple[float, float],
    multiple: int,
) -> AdaptedPrior:
    """A denoiser of pictures on [0, 1] that is told sigma."""
    convention = Convention(
        prediction,
        EDMSDE(),
        "sigma",
        value_range=(0.0, 1.0),
        passing=passing,
        trained=trained,
        multiple=multiple,
    )
    return _frozen(AdaptedPrior(network, convention, shape))


def from_drunet(
    network: nn.Module,
    shape: tuple[int, ...],
    *,
    trained: tuple[float, float] = (0.0, 50 / _EIGHT_BIT),
    multiple: int = 8,
) -> AdaptedPrior:
    """Use a DRUNet (Zhang et al. 2021) as a prior.

    It takes one tensor: the noisy picture on [0, 1] and a further channel that holds sigma.

    Args:
        network: The network, ``net(torch.cat([x, sigma_map], 1))``.
        shape: Shape of one sample, (C, H, W).
        trained: Smallest and largest sigma of the training, on [0, 1].
        multiple: Sides are padded to multiples of this number, by repeating the edge.

    Returns:
        The prior, frozen.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import from_drunet
        >>> class Network(torch.nn.Module):  # shrinks towards black where the map says noise
        ...     def forward(self, x):
        ...         return x[:, :3] * (1 - x[:, 3:])
        >>> prior = from_drunet(Network(), (3, 16, 16))
        >>> prior.denoise(torch.ones(1, 3, 9, 9), 0.2).mean()  # sigma is 0.1 on [0, 1]
        tensor(0.8000)
    """
    return _of_unit_range(network, shape, "x0", "channel", trained, multiple)


def from_ffdnet_like(
    network: nn.Module,
    shape: tuple[int, ...],
    *,
    passing: Passing = "vector",
    trained: tuple[float, float] = (0.0, 75 / _EIGHT_BIT),
    multiple: int = 1,
) -> AdaptedPrior:
    """Use an FFDNet (Zhang, Zuo and Zhang 2018), or a denoiser like it, as a prior.

    Args:
        network: The network, ``net(x, sigma)``, on [0, 1].
        shape: Shape of one sample, (C, H, W).
        passing: Shape of sigma: "vector" (B,) or "image" (B, 1, 1, 1).
        trained: Smallest and largest sigma of the training, on [0, 1].
        multiple: Sides are padded to multiples of this number; 1 for networks that pad themselves.

    Returns:
        The prior, frozen.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import from_ffdnet_like
        >>> class Network(torch.nn.Module):
        ...     def forward(self, x, sigma):
        ...         return x * (1 - sigma)
        >>> prior = from_ffdnet_like(Network(), (3, 8, 8), passing="image")
        >>> prior.denoise(torch.ones(1, 3, 5, 5), 0.2).mean()
        tensor(0.8000)
    """
    return _of_unit_range(network, shape, "x0", passing, trained, multiple)


def from_dncnn(
    network: nn.Module, shape: tuple[int, ...], sigma: float, *, residual: bool = True
) -> AdaptedPrior:
    """Use a blind denoiser of one noise level, such as DnCNN (Zhang et al. 2017), as a prior.

    The network is not told the level and was trained at one alone. The prior is right there
    (``trained`` says where); solvers that go through all levels use it outside of its training.

    Args:
        network: The network, ``net(x)``, on [0, 1].
        shape: Shape of one sample, (C, H, W).
        sigma: Noise level of the training, on [0, 1].
        residual: Whether the network returns the noise, as in the paper, or the denoised picture.

    Returns:
        The prior, frozen.

    Raises:
        ValueError: If sigma is not positive.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import from_dncnn
        >>> class Network(torch.nn.Module):
        ...     def forward(self, x):
        ...         return 0.25 * x
        >>> prior = from_dncnn(Network(), (1, 8, 8), sigma=25 / 255)
        >>> prior.denoise(torch.ones(1, 1, 8, 8), 50 / 255).mean()  # 2 (1 - 0.25) - 1
        tensor(0.5000)
    """
    level = check_number(sigma, "sigma", above=0)
    prediction = "residual" if residual else "x0"
    return _of_unit_range(network, shape, prediction, "nothing", (level, level), 1)


def from_deepinv(
    network: nn.Module,
    shape: tuple[int, ...],
    *,
    trained: tuple[float, float] = (0.0, math.inf),
    multiple: int = 1,
) -> AdaptedPrior:
    """Use a ``Denoiser`` of deepinv as a prior.

    Args:
        network: The denoiser, ``denoiser(x, sigma)``, on [0, 1].
        shape: Shape of one sample, (C, H, W).
        trained: Smallest and largest sigma of the training, on [0, 1], if known.
        multiple: Sides are padded to multiples of this number, for denoisers that do not pad.

    Returns:
        The prior, frozen.

    Example:
        >>> import torch
        >>> from scoresde.priors.adapted import from_deepinv
        >>> class Network(torch.nn.Module):
        ...     def forward(self, x, sigma):
        ...         return x - sigma.reshape(-1, 1, 1, 1)
        >>> prior = from_deepinv(Network(), (1, 8, 8))
        >>> prior.denoise(torch.zeros(1, 1, 8, 8), 0.5).mean()
        tensor(-0.5000)
    """
    return _of_unit_range(network, shape, "x0", "vector", trained, multiple)


def from_azula(
    denoiser: nn.Module,
    shape: tuple[int, ...],
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    multiple: int = 1,
    fixed_size: bool = False,
    conditions: dict[str, Any] | None = None,
) -> AdaptedPrior:
    """Use a denoiser of azula as a prior.

    Args:
        denoiser: The denoiser: ``denoiser(x_t, t).mean`` is E[x_0 | x_t], and
            ``denoiser.schedule(t)`` is (alpha, sigma) for t in [0, 1].
        shape: Shape of one sample.
        value_range: Values of the denoiser for the prior's -1 and 1.
        multiple: Sides are padded to multiples of this number.
        fixed_size: Whether the denoiser takes samples of one size alone.
        conditions: Keyword arguments of every evaluation.

    Returns:
        The prior, frozen.

    Raises:
        ValueError: If the denoiser has no schedule.

    Example:
        >>> import torch
        >>> from types import SimpleNamespace
        >>> from scoresde.priors.adapted import from_azula
        >>> class Denoiser(torch.nn.Module):  # of N(0, 1), for x_t = (1 - t) x_0 + t n
        ...     def schedule(self, t):
        ...         return 1 - t, t
        ...     def forward(self, x_t, t):
        ...         t = t[:, None]
        ...         return SimpleNamespace(mean=(1 - t) * x_t / ((1 - t) ** 2 + t**2))
        >>> prior = from_azula(Denoiser(), (2,))
        >>> prior.denoise(torch.ones(1, 2), 1.0)
        tensor([[0.5000, 0.5000]])
    """
    schedule = getattr(denoiser, "schedule", None)
    check_choice("kind of denoiser", "azula" if callable(schedule) else type(denoiser), ("azula",))
    assert schedule is not None
    noise = FunctionSchedule(lambda t: schedule(t)[0], lambda t: schedule(t)[1], 0.0, 1.0)
    convention = Convention(
        "x0", noise, "t", value_range=value_range, multiple=multiple, fixed_size=fixed_size
    )
    return _frozen(AdaptedPrior(_Mean(denoiser), convention, shape, conditions=conditions))
