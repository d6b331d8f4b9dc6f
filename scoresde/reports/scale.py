"""What the 256 levels of an embedded picture mean, and the colours that show them."""

from dataclasses import dataclass

import numpy as np

__all__ = ["GREY", "Scale", "distinct_colours", "false_colours"]

_UNOBSERVED = (128, 128, 128)


@dataclass(frozen=True)
class Scale:
    """Values of the levels 0 to 255: ``low + step * level``.

    Args:
        low: Value of level 0.
        step: Difference between neighbouring levels, above 0.
        gaps: Whether level 0 means that there is no value.

    Example:
        >>> import numpy as np
        >>> scale = Scale.upwards(51.0)
        >>> scale.levels(np.array([0.0, 10.0, 51.0])).tolist()
        [0, 50, 255]
        >>> scale.values(np.array([50])).round(9).tolist()
        [10.0]
    """

    low: float
    step: float
    gaps: bool = False

    @classmethod
    def upwards(cls, top: float) -> "Scale":
        """Make a scale from 0 to a largest value.

        Args:
            top: The largest value.

        Returns:
            The scale.
        """
        return cls(0.0, max(top, 1e-9) / 255)

    @classmethod
    def around_zero(cls, top: float) -> "Scale":
        """Make a scale from -top to top in which level 0 is kept for missing values.

        Args:
            top: The largest magnitude.

        Returns:
            The scale; level 128 is exactly 0.
        """
        step = max(top, 1e-9) / 127
        return cls(-128 * step, step, gaps=True)

    def levels(self, values: np.ndarray) -> np.ndarray:
        """Round values to levels.

        Args:
            values: Values, any shape; NaN where there is none, if the scale has gaps.

        Returns:
            Levels, uint8, shape of values.
        """
        found = np.clip(np.rint((values - self.low) / self.step), 1 if self.gaps else 0, 255)
        return np.where(np.isnan(found), 0, found).astype(np.uint8)

    def values(self, levels: np.ndarray) -> np.ndarray:
        """Look up the values of levels.

        Args:
            levels: Levels, any shape.

        Returns:
            Values, float64, NaN where there is none.
        """
        values = self.low + self.step * levels.astype(np.float64)
        return np.where(levels == 0, np.nan, values) if self.gaps else values


GREY = Scale(0.0, 1.0)
"""The levels of a picture are its grey levels."""


def false_colours(scale: Scale, top: float) -> np.ndarray:
    """Choose a colour for each level of a map.

    Maps from 0 upwards have the perceptually uniform "inferno" colours, maps around 0 blue, white
    and red, with grey for missing values. No two levels share a colour, so that the level can be
    read back from the picture.

    Args:
        scale: Values of the levels.
        top: Value at the upper end of the colours.

    Returns:
        Colours, shape (256, 3), uint8, all different.
    """
    import matplotlib

    values: np.ndarray = scale.low + scale.step * np.arange(256)
    where: np.ndarray
    if scale.gaps:
        where, name = (values / max(top, 1e-12) + 1) / 2, "RdBu_r"
    else:
        where, name = values / max(top, 1e-12), "inferno"
    colours = np.asarray(matplotlib.colormaps[name](np.clip(where, 0, 1)))[:, :3]
    wanted = (255 * colours).round().astype(np.uint8)
    if scale.gaps:
        wanted[0] = _UNOBSERVED
    return distinct_colours(wanted)


def distinct_colours(colours: np.ndarray) -> np.ndarray:
    """Change colours that occur more than once as little as needed to make all different.

    Args:
        colours: Colours, shape (n, 3), uint8, n at most 256.

    Returns:
        Colours of the same shape, all different; the first of equal ones is kept.

    Example:
        >>> import numpy as np
        >>> distinct_colours(np.zeros((3, 3), np.uint8)).tolist()
        [[0, 0, 0], [0, 0, 1], [0, 1, 0]]
    """
    reach = np.arange(-6, 7)
    offsets = np.stack(np.meshgrid(reach, reach, reach, indexing="ij"), -1).reshape(-1, 3)
    # the nearest first; of equally near ones the brighter, in blue, to which the eye is least keen
    offsets = offsets[np.lexsort((-offsets[:, 1], -offsets[:, 2], (offsets**2).sum(1)))]
    used: set[tuple[int, ...]] = set()
    found = []
    for colour in colours.astype(int):
        near = (tuple(int(v) for v in colour + offset) for offset in offsets)
        chosen = next(one for one in near if one not in used and all(0 <= v <= 255 for v in one))
        used.add(chosen)
        found.append(chosen)
    return np.array(found, np.uint8)
