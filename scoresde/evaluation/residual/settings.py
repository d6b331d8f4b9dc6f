"""The inputs of each operator that a user gives and may get wrong, in words."""

from problems import (
    JPEG,
    MRI,
    Blur,
    Clipping,
    CompressedSensing,
    Decimation,
    Demosaicing,
    Denoising,
    DiffractionBlur,
    DiskBlur,
    FanBeam,
    Gamma,
    GaussianBlur,
    Grayscale,
    Inpainting,
    MicroscopeBlur,
    MotionBlur,
    NonCartesianMRI,
    Operator,
    ParallelBeam,
    PhaseRetrieval,
    Quantisation,
    SuperResolution,
    Tomography,
    Transmission,
    VaryingBlur,
)

__all__ = ["settings_of"]

# In this order: a subclass comes before its base
_INPUTS: tuple[tuple[type[Operator], str], ...] = (
    (Inpainting, "the mask (which pixels are missing, and whether white means missing)"),
    (Decimation, "the kernel and the scale"),
    (Blur, "the kernel (its shape, size, direction, sum and boundary)"),
    (GaussianBlur, "the kernel (its width and boundary, and whether it is Gaussian at all)"),
    (MotionBlur, "the kernel (its length, angle and boundary)"),
    (DiskBlur, "the kernel (its radius and boundary)"),
    (MicroscopeBlur, "the wavelength, the aperture, the pixels, the depth and the indices"),
    (DiffractionBlur, "the wavelength, the aperture, the size of a pixel and the aberrations"),
    (VaryingBlur, "the kernels, their order and their weights"),
    (SuperResolution, "the scale and its filter"),
    (Grayscale, "the weights of the colours"),
    (Demosaicing, "the pattern of the mosaic"),
    (CompressedSensing, "the transform, its seed and the order of the coefficients"),
    (MRI, "the k-space mask (and that its zero frequency is in the middle) and the coils"),
    (NonCartesianMRI, "the trajectory (its units, order and delays) and the coils"),
    (Tomography, "the angles, their order and the length of a pixel"),
    (FanBeam, "the angles and their order, the distances, the pitch and the offset"),
    (ParallelBeam, "the angles and their order, the size of a pixel, the pitch and the offset"),
    (Transmission, "the number of photons and the background"),
    (PhaseRetrieval, "the oversampling and whether magnitudes are squared"),
    (Clipping, "the gain and the clipping levels"),
    (JPEG, "the quality (or the tables) and the subsampling"),
    (Quantisation, "the number of levels"),
    (Gamma, "the exponent of the gamma curve"),
    (Denoising, "the problem (a blur, holes or a pattern that denoising does not know)"),
)


def settings_of(operator: Operator) -> str:
    """Name the inputs of an operator that may be wrong.

    Args:
        operator: Operator; of a composition or a stack all parts are named.

    Returns:
        Words for a sentence.

    Example:
        >>> from problems import Grayscale, MotionBlur
        >>> settings_of(MotionBlur(9, 30.0) @ Grayscale())
        'the kernel (its length, angle and boundary), the weights of the colours'
    """
    return ", ".join(dict.fromkeys(_inputs(operator)))


def _inputs(operator: Operator) -> list[str]:
    parts = [getattr(operator, name) for name in ("outer", "inner") if hasattr(operator, name)]
    parts += getattr(operator, "operators", ())
    if parts:
        return [words for part in parts for words in _inputs(part)]
    for cls, words in _INPUTS:
        if isinstance(operator, cls):
            return [words]
    return [f"the settings of {type(operator).__name__}"]
