"""Options and the problems that use them; the noise level where none is given."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from problems import JPEG, Denoising, Operator, Quantisation
from problems.reading.pictures import read_picture
from scoresde import InputError
from scoresde.pipelines.default_noise import default_sigma
from scoresde.pipelines.demo import SCENES, photograph
from scoresde.pipelines.named_problems import PROBLEMS, ImageContext, build_operator, check_used
from scoresde.pipelines.settings import ProblemOptions
from tests.conftest import seeded

GIVEN: dict[str, object] = {
    "maps": "estimate",
    "noise_scan": Path("n.npy"),
    "mask": Path("mask.png"),
    "mask_value": 0.0,
    "invert_mask": True,
    "box": "1,1,2,2",
    "random": 0.5,
    "kernel": Path("kernel.png"),
    "kernel_size": 9,
    "key": "x",
    "gaussian": 1.0,
    "motion": "5,30",
    "disk": 2.0,
    "boundary": "reflect",
    "scale": 4.0,
    "filter": "bicubic",
}


def context(path: Path | None = None, *, simulate: bool = False) -> ImageContext:
    file = None if path is None else read_picture(path)
    return ImageContext(24, 24, simulate, seeded(0), file)


class TestUnused:
    def test_every_option_is_tried(self) -> None:
        common = {"photons", "set", "range", "array", "select"}
        assert set(ProblemOptions.__dataclass_fields__) == {*GIVEN, *common, "problem"}

    @pytest.mark.parametrize("problem", [*PROBLEMS, "problem.json"])
    @pytest.mark.parametrize("option", GIVEN)
    def test_an_option_that_does_nothing_is_an_error(self, problem: str, option: str) -> None:
        """Also if its value is the default."""
        uses = () if problem == "problem.json" else PROBLEMS[problem].uses
        options = ProblemOptions(problem, **{option: GIVEN[option]})  # type: ignore[arg-type]
        if option in uses and option not in (
            "mask_value",
            "invert_mask",
            "key",
            "noise_scan",
        ):
            check_used(options)
            return
        with pytest.raises(InputError, match=f"--{option.replace('_', '-')} does nothing"):
            check_used(options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (ProblemOptions("problem.json", set=("quality=3",)), "--set does nothing"),
            (ProblemOptions("inpaint", box="1,1,2,2", key="x"), "nothing without --mask FILE"),
            (ProblemOptions("deblur", gaussian=1.0, key="x"), "nothing without --kernel FILE"),
            (ProblemOptions("super-resolve", boundary="zero"), "without --kernel"),
            (
                ProblemOptions("super-resolve", kernel=Path("k.png"), filter="average"),
                "--filter and --kernel exclude each other",
            ),
        ],
    )
    def test_options_that_need_another(self, options: ProblemOptions, message: str) -> None:
        with pytest.raises(InputError, match=message):
            check_used(options)
            build_operator(options, context())


class TestMissing:
    @pytest.mark.parametrize("fraction", [0.0, 0.0001, 0.9999])
    def test_some_pixels_must_be_missing_and_some_not(self, fraction: float) -> None:
        with pytest.raises(InputError, match=r"the mask misses no pixel|observe|every pixel"):
            build_operator(ProblemOptions("inpaint", random=fraction), context())


class TestJPEG:
    @pytest.fixture
    def photo(self) -> np.ndarray:
        return np.kron(np.random.default_rng(0).integers(0, 256, (3, 3, 3)), np.ones((8, 8, 1)))

    @pytest.mark.parametrize("quality", [10, 75, 95])
    @pytest.mark.parametrize("subsampling", [0, 1, 2])
    def test_a_file_tells_its_own_tables(
        self, tmp_path: Path, photo: np.ndarray, quality: int, subsampling: int
    ) -> None:
        """The operator of the file gives its bytes: compressing them again changes nothing more.

        That is checked with another encoder: Pillow's, by the same quality.
        """
        path = tmp_path / "a.jpg"
        Image.fromarray(photo.astype(np.uint8)).save(path, quality=quality, subsampling=subsampling)
        operator, description = build_operator(ProblemOptions("jpeg"), context(path))
        assert description["quality"] == "the tables of the file"
        scene = torch.from_numpy(photo / 127.5 - 1).permute(2, 0, 1)[None]
        decoded = torch.from_numpy(np.asarray(Image.open(path)) / 127.5 - 1).permute(2, 0, 1)[None]
        torch.testing.assert_close(operator.apply(scene), decoded, atol=1e-9, rtol=0)

    def test_other_files_must_say_the_quality(self, tmp_path: Path, photo: np.ndarray) -> None:
        Image.fromarray(photo.astype(np.uint8)).save(tmp_path / "a.png")
        with pytest.raises(InputError, match="--set quality"):
            build_operator(ProblemOptions("jpeg"), context(tmp_path / "a.png"))
        given = ProblemOptions("jpeg", set=("quality=30",))
        operator, _ = build_operator(given, context(tmp_path / "a.png"))
        assert isinstance(operator, JPEG) and operator.quality == 30

    def test_a_simulation_has_a_default(self, tmp_path: Path, photo: np.ndarray) -> None:
        path = tmp_path / "a.jpg"
        Image.fromarray(photo.astype(np.uint8)).save(path, quality=90)
        operator, _ = build_operator(ProblemOptions("jpeg"), context(path, simulate=True))
        assert isinstance(operator, JPEG) and operator.quality == 10


class TestDefaultNoise:
    @pytest.mark.parametrize("quality", [10, 30, 50, 75, 90])
    def test_of_a_jpeg_is_its_error(self, quality: int) -> None:
        """On photographs, to a factor of 1.5: they differ by more than that among themselves."""
        operator = JPEG(quality)
        pictures = [photograph(name, corner) for name, _, _, corner in SCENES]
        errors = [(operator.apply(x) - x).square().mean() for x in pictures]
        real = torch.stack(errors).mean().sqrt()
        assert 1 / 1.5 < default_sigma(operator, simulate=False) / real < 1.5

    @pytest.mark.parametrize("levels", [4, 8, 32])
    def test_of_rounding_is_about_its_error(self, levels: int) -> None:
        """Uniform errors have the standard deviation step / sqrt(12)."""
        uniform = 2 / (levels - 1) / 12**0.5
        assert 1 < default_sigma(Quantisation(levels), simulate=False) / uniform < 1.3

    @pytest.mark.parametrize(("simulate", "sigma"), [(True, 0.05), (False, 0.02)])
    def test_of_others(self, simulate: bool, sigma: float) -> None:
        operator: Operator = Denoising()
        assert default_sigma(operator, simulate) == sigma
