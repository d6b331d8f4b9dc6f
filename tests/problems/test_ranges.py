"""Which values of a file are black and white: told by the type, by a rule, or asked for."""

import numpy as np
import pytest

from problems.reading.ranges import (
    ValueRange,
    array_range,
    check_range,
    looks_dark,
    picture_range,
)

RNG = np.random.default_rng(0)
RAMP = np.linspace(0, 1, 10_000)


def with_outliers(values: np.ndarray, share: float, value: float) -> np.ndarray:
    values = values.copy()
    values[RNG.permutation(len(values))[: int(share * len(values))]] = value
    return values


class TestPictures:
    @pytest.mark.parametrize(("dtype", "high"), [("bool", 1), ("uint8", 255), ("uint16", 65535)])
    @pytest.mark.parametrize("top", [0, 1])
    def test_types_with_a_full_scale(self, dtype: str, high: float, top: int) -> None:
        """Whatever the values are."""
        chosen = picture_range(np.array([0, top], dtype), "a.png")
        assert (chosen.low, chosen.high) == (0, high)

    @pytest.mark.parametrize("white", [1.0, 255.0])
    @pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
    @pytest.mark.parametrize("outlier", [None, 1.2, 5.0, 1e6, -1e6])
    def test_float_pictures_whatever_a_few_pixels_are(
        self, white: float, noise: float, outlier: float | None
    ) -> None:
        values = RAMP + noise * RNG.standard_normal(len(RAMP))
        values = values if outlier is None else with_outliers(values, 0.01, outlier)
        chosen = picture_range((white * values).astype(np.float32), "a.tif")
        assert (chosen.low, chosen.high) == (0, white)

    @pytest.mark.parametrize(
        "values",
        [
            2 * RAMP - 1,  # on [-1, 1]
            3000 * RAMP - 1000,  # CT numbers
            RAMP * 4095,
            RAMP * 10,
            RAMP * 1e-5,  # as k-space of a scanner
            RAMP * 1e6,
            0 * RAMP,
        ],
    )
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_other_float_pictures_are_asked_about(self, values: np.ndarray, dtype: str) -> None:
        with pytest.raises(ValueError, match=r"the range of a\.tif is not known.*--range LOW,HIGH"):
            picture_range(values.astype(dtype), "a.tif")

    @pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32"])
    @pytest.mark.parametrize("top", [1, 100])
    def test_so_are_signed_and_long_integers(self, dtype: str, top: int) -> None:
        values = (RAMP * top).astype(dtype)
        with pytest.raises(ValueError, match=f"its {dtype} values"):
            picture_range(values, "a.tif")
        assert picture_range(values, "a.tif", stated=(-5, 9)).low == -5
        assert picture_range(values, "a.tif", given=(0, 9), stated=(-5, 9)).low == 0

    def test_quantiles_are_those_of_finite_values(self) -> None:
        values = with_outliers(RAMP, 0.3, np.nan)
        assert picture_range(values, "a.tif").high == 1


class TestArrays:
    def test_floats_are_on_minus_one_to_one(self) -> None:
        chosen = array_range(2 * RAMP - 1, "y.npy")
        assert (chosen.low, chosen.high) == (-1, 1)

    def test_noise_reaches_beyond(self) -> None:
        noisy = 2 * RAMP - 1 + 0.8 * RNG.standard_normal(len(RAMP))
        assert array_range(noisy, "y.npy", noise=0.8).low == -1
        with pytest.raises(ValueError, match="--range LOW,HIGH"):
            array_range(noisy, "y.npy")

    @pytest.mark.parametrize("values", [RAMP, 0.2 + 0.3 * RAMP])
    def test_what_fits_both_units_is_asked_about(self, values: np.ndarray) -> None:
        with pytest.raises(ValueError, match=r"--range 0,1 or --range -1,1"):
            array_range(values, "y.npy")
        assert array_range(values, "y.npy", given=(0, 1)).high == 1

    @pytest.mark.parametrize("values", [255 * RAMP, 100 * RAMP - 50, RAMP.astype(int)])
    def test_other_units_too(self, values: np.ndarray) -> None:
        with pytest.raises(ValueError, match="--range LOW,HIGH"):
            array_range(values, "y.npy")

    def test_bytes_are_bytes(self) -> None:
        assert array_range(np.array([0, 7], np.uint8), "y.npy").high == 255


class TestMap:
    @pytest.mark.parametrize("ends", [(0.0, 1.0), (0.0, 255.0), (-1000.0, 2000.0), (3.0, 3.5)])
    def test_black_to_minus_one_and_white_to_one(self, ends: tuple[float, float]) -> None:
        low, high = ends
        values = np.array([low, (low + high) / 2, high, high + (high - low) / 2])
        unit = ValueRange(low, high, "").to_unit(values)
        np.testing.assert_allclose(unit, [-1, 0, 1, 2], atol=1e-6)

    @pytest.mark.parametrize("ends", [(1, 1), (2, 1), (0, np.inf), (np.nan, 1)])
    def test_bad_ends(self, ends: tuple[float, float]) -> None:
        with pytest.raises(ValueError, match="two finite numbers, black below white"):
            check_range(*ends)


def test_a_camera_of_twelve_bits_in_a_file_of_sixteen_is_noticed() -> None:
    values = (RAMP * 4095).astype(np.uint16)
    full = ValueRange(0, 65535, "full scale of its type")
    assert "--range 0,4095" in str(looks_dark(values, full))
    assert looks_dark((RAMP * 65535).astype(np.uint16), full) is None
    assert looks_dark(values, ValueRange(0, 4095, "as given")) is None
    assert looks_dark(values.astype(np.int32), full) is None
