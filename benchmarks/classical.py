"""Classical restoration methods from scikit-image, as baselines.

Biharmonic inpainting, Wiener filter, total variation and bicubic interpolation. Each takes
(operator, y, parameter) with y (1, C, h, w) in [-1, 1] and returns an estimate. A parameter is
chosen as the best on average over the same pictures that the method is judged on, which flatters
these methods.
"""

from collections.abc import Callable

import numpy as np
import torch
from skimage.restoration import denoise_tv_chambolle, inpaint_biharmonic, wiener
from skimage.transform import resize
from torch import Tensor

from problems import Inpainting, SuperResolution
from problems.operators.convolution import Convolution

__all__ = ["CLASSICAL"]


def _hwc(x: Tensor) -> np.ndarray:
    return x[0].permute(1, 2, 0).double().numpy()


def _bchw(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None].float()


def biharmonic(operator: Inpainting, y: Tensor, _: float) -> Tensor:
    holes = (~operator.mask[0]).numpy()
    return _bchw(inpaint_biharmonic(_hwc(y), holes, split_into_regions=False, channel_axis=-1))


def biharmonic_tv(operator: Inpainting, y: Tensor, weight: float) -> Tensor:
    """Biharmonic inpainting, which has no model of noise, and TV denoising afterwards."""
    return _bchw(
        denoise_tv_chambolle(_hwc(biharmonic(operator, y, 0)), weight=weight, channel_axis=-1)
    )


def wiener_filter(operator: Convolution, y: Tensor, balance: float) -> Tensor:
    kernel, picture = operator.kernel.numpy(), _hwc(y)
    return _bchw(
        np.stack(
            [
                wiener(picture[..., c], kernel, balance, clip=False)
                for c in range(picture.shape[-1])
            ],
            axis=-1,
        )
    )


def tv_deconvolution(operator: Convolution, y: Tensor, weight: float) -> Tensor:
    """min_x |y - A x|^2 / 2 + weight TV(x) by FISTA (Beck and Teboulle 2009), for |A| <= 1.

    The prox of TV is computed by Chambolle's algorithm.
    """
    x = z = y.double()
    momentum = 1.0
    for _ in range(40):
        step = z + operator.adjoint(y.double() - operator.apply(z))
        new = _bchw(
            denoise_tv_chambolle(_hwc(step), weight=weight, max_num_iter=20, channel_axis=-1)
        ).double()
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        z = new + (momentum - 1) / following * (new - x)
        x, momentum = new, following
    return x.float()


def bicubic(operator: SuperResolution, y: Tensor, _: float) -> Tensor:
    height, width = operator.input_shape(tuple(y.shape[1:]))[-2:]
    return _bchw(resize(_hwc(y), (height, width), order=3, mode="symmetric", clip=False))


def bicubic_tv(operator: SuperResolution, y: Tensor, weight: float) -> Tensor:
    """TV denoising, and then bicubic interpolation, which has no model of noise."""
    clean = _bchw(denoise_tv_chambolle(_hwc(y), weight=weight, channel_axis=-1))
    return bicubic(operator, clean, 0)


_INPAINTING = {
    "biharmonic": (biharmonic, [0.0]),
    "biharmonic, then TV": (biharmonic_tv, [0.02, 0.04]),
}
_BLUR = {
    "Wiener": (wiener_filter, [0.01, 0.03, 0.1]),
    "TV": (tv_deconvolution, [0.004, 0.006, 0.01]),
}
_SUPER_RESOLUTION = {"bicubic": (bicubic, [0.0]), "TV, then bicubic": (bicubic_tv, [0.01, 0.02])}

CLASSICAL: dict[str, dict[str, tuple[Callable[..., Tensor], list[float]]]] = {
    "random 70 %": _INPAINTING,
    "box 40×40": _INPAINTING,
    "Gaussian blur 1.6": _BLUR,
    "motion blur 15": _BLUR,
    "×4 bicubic": _SUPER_RESOLUTION,
}
