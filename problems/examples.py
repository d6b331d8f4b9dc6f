"""Examples of composite operators for the test sheet.

They need concrete operators, which the module of the composites cannot import.
"""

import torch

from problems.operators.base import Operator, Shape, examples_of
from problems.operators.blur import Blur, GaussianBlur, MotionBlur
from problems.operators.colour import Grayscale
from problems.operators.compose import Composition, NonlinearComposition, NonlinearStack, Stack
from problems.operators.convolution import example_kernel
from problems.operators.denoising import Denoising
from problems.operators.inpainting import Inpainting, random_mask
from problems.operators.pointwise import Clipping, Gamma

__all__: list[str] = []


@examples_of(Composition)
def compositions(shape: Shape) -> dict[str, Operator]:
    """Build examples of linear compositions for the test sheet.

    Args:
        shape: Shape (C, H, W) of the images.

    Returns:
        Operators by name.
    """
    grey = Grayscale((1 / shape[0],) * shape[0])
    mask = Inpainting(random_mask(shape[1], shape[2], 0.3, torch.Generator().manual_seed(8)))
    found: dict[str, Operator] = {"grey-inpaint": mask @ grey}
    if min(shape[-2:]) >= 5:
        found |= {
            "grey-gaussian": GaussianBlur(0.7, "reflect", 2.0) @ grey,
            "masked-motion": mask @ MotionBlur(3, 20.0, "reflect"),
        }
    return found


@examples_of(NonlinearComposition)
def nonlinear_compositions(shape: Shape) -> dict[str, Operator]:
    """Build examples of nonlinear compositions for the test sheet.

    Args:
        shape: Shape (C, H, W) of the images.

    Returns:
        Operators by name; {} if none fits.
    """
    return (
        {"gamma-blur": Gamma(1 / 2.2) @ GaussianBlur(0.7, "reflect", 2.0) @ Gamma(2.2)}
        if min(shape[-2:]) >= 5
        else {}
    )


@examples_of(Stack)
def stacks(shape: Shape) -> dict[str, Operator]:
    """Build examples of linear stacks for the test sheet.

    Args:
        shape: Shape (C, H, W) of the images.

    Returns:
        Operators by name.
    """
    mask = Inpainting(random_mask(shape[1], shape[2], 0.3, torch.Generator().manual_seed(8)))
    kernels = [Blur(example_kernel(1, n)) for n in (2, 3) if n <= shape[-1]]
    return {"stack": Stack((mask, *kernels), shape)}


@examples_of(NonlinearStack)
def nonlinear_stacks(shape: Shape) -> dict[str, Operator]:
    """Build examples of nonlinear stacks for the test sheet.

    Args:
        shape: Shape (C, H, W) of the images.

    Returns:
        Operators by name.
    """
    return {"exposures": NonlinearStack((Clipping(4.0), Denoising()), shape)}
