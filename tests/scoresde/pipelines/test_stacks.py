"""Files of instruments and stacks through `scoresde restore`: values, axes, headers, refusals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from torch import nn

from problems import MRI, channels_of
from scoresde import EDMSDE, InputError, ScorePrior, save_prior
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.folders import list_jobs
from scoresde.pipelines.posterior_file import read_posterior
from scoresde.pipelines.restore import Restoration, restore
from scoresde.pipelines.settings import OutputOptions, ProblemOptions, RestoreOptions
from scoresde.priors.checkpoint import load_score_prior
from tests.commands import run
from tests.problems.test_sources import write_dicom

RNG = np.random.default_rng(0)
VOLUME = RNG.uniform(0, 1000, (12, 16, 4)).astype(np.float32)  # x, y, z
# what is seen with this noise changes by rounding alone
EXACT = 2e-7
AFFINE = np.array([[-2.0, 0, 0, 9], [0, 3, 0, -7], [0, 0, 4, 1], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small untrained network."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, attention=(1,), embedding=16))
    nn.init.normal_(network.head.weight, std=0.05)
    path = tmp_path_factory.mktemp("prior") / "small.safetensors"
    save_prior(ScorePrior(network, EDMSDE(), (3, 16, 16)), path)
    return str(path)


@pytest.fixture
def brain(tmp_path: Path) -> Path:
    import nibabel

    image = nibabel.Nifti1Image(VOLUME, AFFINE)
    image.set_sform(AFFINE, 4)  # MNI
    image.set_qform(AFFINE, 1)  # of the scanner
    nibabel.save(image, tmp_path / "brain.nii.gz")
    return tmp_path / "brain.nii.gz"


def restored(
    image: Path,
    prior: str,
    out: Path,
    problem: str = "denoise",
    sigma: Any = EXACT,
    more: dict[str, Any] | None = None,
    **given: Any,
) -> Restoration:
    options = RestoreOptions(sigma, solver="diffpir", steps=2, samples=2, prior=prior, device="cpu")
    return restore(image, ProblemOptions(problem, **given), options, out, **(more or {}))


class TestStacks:
    @pytest.mark.slow
    def test_values_axes_and_affine(self, prior: str, brain: Path, tmp_path: Path) -> None:
        """Every file has the numbers of the volume, in the places of the volume."""
        import nibabel

        seen: list[float] = []
        out = tmp_path / "out"
        more = {"progress": seen.append}
        result = restored(brain, prior, out, more=more, range="0,1000", select=("z=1:3",))
        assert result.posterior.draws.shape == (2, 2, 1, 12, 16)
        right = VOLUME[:, :, 1:3]
        mean = nibabel.load(out / "mean.nii.gz")
        np.testing.assert_allclose(mean.get_fdata(), right, atol=1e-3)
        # the first voxel of the result is voxel (0, 0, 1) of the file
        np.testing.assert_allclose(mean.affine @ [0, 0, 0, 1], AFFINE @ [0, 0, 1, 1])
        np.testing.assert_array_equal(mean.affine[:3, :3], AFFINE[:3, :3])
        assert (int(mean.header["sform_code"]), int(mean.header["qform_code"])) == (4, 1)
        np.testing.assert_allclose(mean.get_qform(), mean.affine, atol=1e-5)
        pages = np.moveaxis(right, 2, 0)
        with tifffile.TiffFile(out / "mean.tif") as file:
            assert file.series[0].axes == "ZYX"
            np.testing.assert_allclose(file.asarray(), pages, atol=1e-3)
        arrays, header = read_posterior(out / "posterior.npz")
        assert header["axes"]["draws"] == ["draw", "z", "channel", "row", "column"]
        assert arrays["std"].shape == (2, 1, 12, 16)
        width = header["white"] - header["black"]
        unit = header["black"] + (arrays["mean"][:, 0] + 1) / 2 * width
        np.testing.assert_allclose(unit, pages, atol=1e-3)
        report = json.loads((out / "report.json").read_text())
        assert [one["slice"] for one in report["slices"]] == ["z=1", "z=2"]
        assert {path.name for path in out.iterdir()} == set(report["files"])
        assert seen == sorted(seen) and seen[-1] == 1.0 and 0.5 in seen

    @pytest.mark.slow
    def test_a_slice_alone_is_the_same(self, prior: str, brain: Path, tmp_path: Path) -> None:
        """Noise and draws of a slice depend on its place, not on what else is restored."""
        given: dict[str, Any] = {"range": "0,1000", "sigma": 0.1, "more": {"simulate": True}}
        every = restored(brain, prior, tmp_path / "all", **given)
        alone = restored(brain, prior, tmp_path / "one", select=("z=2",), **given)
        assert every.y.shape == (4, 1, 12, 16)
        assert torch.equal(every.y[2:3], alone.y)
        assert torch.equal(every.posterior.draws[:, 2:3], alone.posterior.draws)
        assert not torch.equal(every.y[1] - every.truth[1], every.y[2] - every.truth[2])  # type: ignore[index]
        scores = [one["psnr"] for one in every.report["slices"]]
        assert every.report["mean"]["psnr"] == pytest.approx(np.mean(scores))
        assert np.load(tmp_path / "all/measurement.npy").shape == (4, 1, 12, 16)

    @pytest.mark.slow
    def test_an_interrupted_stack_goes_on(
        self, prior: str, brain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Equal to an undisturbed run, and no finished slice is restored again."""
        from scoresde.pipelines import stacks

        given: dict[str, Any] = {"range": "0,1000", "sigma": 0.1}
        right = restored(brain, prior, tmp_path / "right", **given)
        restoring, said = list[int](), list[str]()
        solve = stacks.solve

        def counted(task: Any, index: int, *rest: Any) -> Any:
            restoring.append(index)
            return solve(task, index, *rest)

        monkeypatch.setattr(stacks, "solve", counted)

        def stop(fraction: float) -> None:
            if fraction > 0.5:
                raise KeyboardInterrupt

        out = tmp_path / "out"
        with pytest.raises(KeyboardInterrupt):
            restored(brain, prior, out, more={"progress": stop}, **given)
        assert restoring == [0, 1, 2] and not (out / "report.json").exists()
        kept = sorted(out.rglob("*.safetensors"))
        assert len(kept) == 2
        # one that is not whole, and one of another noise level, are of no use
        kept[0].write_bytes(kept[0].read_bytes()[:-100])
        seen: list[float] = []
        more = {"progress": seen.append, "say": said.append}
        found = restored(brain, prior, out, more=more, **given)
        assert restoring == [0, 1, 2, 0, 2, 3] and said == [
            "1 of 4 slices are done already and kept"
        ]
        assert seen[-1] == 1.0
        assert torch.equal(found.posterior.draws, right.posterior.draws)
        one, two = (json.loads((f / "report.json").read_text()) for f in (out, tmp_path / "right"))
        for report in (one, two):
            del report["seconds"]
        assert one == two
        assert (out / "problem.json").read_text() == (tmp_path / "right/problem.json").read_text()
        for name in ("mean.tif", "std.tif", "draw_2.tif", "sheet.png"):
            assert (out / name).read_bytes() == (tmp_path / "right" / name).read_bytes(), name
        films = [(f / "report.html").read_text().count("<img") for f in (out, tmp_path / "right")]
        assert films[0] == films[1]
        assert {path.name for path in out.iterdir()} == set(one["files"])
        restoring.clear()
        with pytest.raises(KeyboardInterrupt):
            restored(brain, prior, out, more={"progress": stop}, **given)
        restored(brain, prior, out, range="0,1000", sigma=0.2)
        assert restoring == [0, 1, 2, 0, 1, 2, 3]
        assert not list(out.rglob("*.safetensors"))

    @pytest.mark.slow
    def test_a_kept_slice_has_the_noise_that_was_estimated(
        self, prior: str, brain: Path, tmp_path: Path
    ) -> None:
        select = ("z=:2", "x=:8", "y=:8")
        given: dict[str, Any] = {"range": "0,1000", "sigma": "auto", "select": select}
        right = restored(brain, prior, tmp_path / "right", **given)

        def stop(fraction: float) -> None:
            if fraction > 0.5:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            restored(brain, prior, tmp_path / "out", more={"progress": stop}, **given)
        found = restored(brain, prior, tmp_path / "out", **given)
        assert torch.equal(found.posterior.draws, right.posterior.draws)
        estimates = [one.report["sigma_estimate"]["sigma"] for one in (found, right)]
        problems = [(tmp_path / one / "problem.json").read_text() for one in ("out", "right")]
        assert estimates[0] == estimates[1] and problems[0] == problems[1]
        assert json.loads(problems[0])["noise"]["std"] == pytest.approx(estimates[0][0], abs=1e-4)

    @pytest.mark.slow
    def test_pages_of_sixteen_bits(self, prior: str, tmp_path: Path) -> None:
        counts = RNG.integers(0, 65536, (3, 12, 16), np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", counts, photometric="minisblack")
        restored(tmp_path / "a.tif", prior, tmp_path / "mean.tif")
        for name in ("mean.tif", "mean/mean.tif"):
            found = tifffile.imread(tmp_path / name)
            assert found.dtype == np.uint16 and np.array_equal(found, counts)

    @pytest.mark.slow
    def test_colours(self, prior: str, tmp_path: Path) -> None:
        colour = RNG.integers(0, 256, (2, 12, 16, 3), np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
        restored(tmp_path / "a.tif", prior, tmp_path / "out")
        assert np.array_equal(tifffile.imread(tmp_path / "out/mean.tif"), colour)

    @pytest.mark.slow
    def test_kspace_of_fastmri(self, prior: str, tmp_path: Path) -> None:
        """Complete k-space of each slice gives the slices back, up to five times the noise."""
        import h5py

        x = torch.from_numpy(2 * VOLUME.transpose(2, 0, 1)[:, None] / 1000 - 1)
        y = MRI(torch.ones(12, 16)).apply(x)
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["kspace"] = torch.complex(y[:, 0], y[:, 1]).numpy()
        result = restored(
            tmp_path / "a.h5", prior, tmp_path / "out", "mri", 0.01, set=("acceleration=1",)
        )
        assert torch.equal(result.y, y)
        torch.testing.assert_close(result.posterior.mean, x, atol=0.05, rtol=0)
        assert tifffile.imread(tmp_path / "out/mean.tif").shape == (4, 12, 16)

    @pytest.mark.slow
    def test_coils_are_channels(self, prior: str, tmp_path: Path) -> None:
        """The order of the operator: real and imaginary part of each coil."""
        from problems import birdcage_maps

        x = torch.from_numpy(2 * VOLUME.transpose(2, 0, 1)[:1, None] / 1000 - 1)
        y = MRI(torch.ones(12, 16), birdcage_maps(3, 12, 16)).apply(x)
        coils = torch.complex(y[:, 0::2], y[:, 1::2]).numpy()
        assert torch.equal(channels_of(torch.from_numpy(coils)), y)
        np.save(tmp_path / "a.npy", coils[0])
        result = restored(
            tmp_path / "a.npy", prior, tmp_path / "out", "mri", set=("acceleration=1", "coils=3")
        )
        assert torch.equal(result.y, y)


class TestUnits:
    @pytest.mark.slow
    def test_hounsfield_units(self, prior: str, tmp_path: Path) -> None:
        stored = RNG.integers(0, 4000, (12, 16), np.uint16)
        path = write_dicom(tmp_path, stored)
        with pytest.raises(InputError, match=r"to .* HU .*--range file for the window -160 to 239"):
            restored(path, prior, tmp_path / "none")
        assert not (tmp_path / "none").exists()
        result = restored(path, prior, tmp_path / "out", range="-1024,976")
        np.testing.assert_allclose(
            tifffile.imread(tmp_path / "out/mean.tif"), stored * 0.5 - 1024, atol=2e-3
        )
        assert result.report["read"]["units"] == "HU"
        assert read_posterior(tmp_path / "out/posterior.npz")[1]["file_units"] == "HU"
        window = restored(path, prior, tmp_path / "window", range="file")
        assert window.report["read"]["range"] == [-160, 239]

    @pytest.mark.slow
    def test_fits_keeps_its_header(self, prior: str, tmp_path: Path) -> None:
        """Coordinates belong to the same places of the sky; old scales are gone."""
        from astropy.io import fits
        from astropy.wcs import WCS

        cube = RNG.integers(-1000, 1000, (1, 5, 12, 16)).astype(np.int16)
        hdu = fits.PrimaryHDU(cube)
        kinds = ("RA---TAN", "DEC--TAN", "FREQ", "STOKES")
        for axis, kind in enumerate(kinds, 1):
            hdu.header[f"CTYPE{axis}"], hdu.header[f"CRPIX{axis}"] = kind, 2.0
            hdu.header[f"CRVAL{axis}"], hdu.header[f"CDELT{axis}"] = 10.0 * axis, 0.5
        hdu.header["BSCALE"], hdu.header["BUNIT"], hdu.header["OBJECT"] = 0.5, "Jy", "3C 273"
        hdu.writeto(tmp_path / "a.fits")
        # astropy scales by the header of what it reads
        select = ("freq=2:4", "x=3:16")
        restored(tmp_path / "a.fits", prior, tmp_path / "out", range="-600,600", select=select)
        with fits.open(tmp_path / "a.fits") as old, fits.open(tmp_path / "out/mean.fits") as new:
            right, found = old[0].data[:, 2:4, :, 3:], new[0].data
            assert found.shape == (1, 2, 12, 13)
            np.testing.assert_allclose(found, right, atol=1e-3)
            header = new[0].header
            assert header["OBJECT"] == "3C 273" and "BSCALE" not in header
            places = [
                WCS(one).all_pix2world([place], 0)
                for one, place in ((old[0].header, [4, 5, 3, 0]), (header, [1, 5, 1, 0]))
            ]
            np.testing.assert_allclose(*places)

    @pytest.mark.slow
    def test_noise_in_the_units_of_the_file(
        self, capsys: pytest.CaptureFixture[str], prior: str, tmp_path: Path
    ) -> None:
        """--sigma 20 --sigma-units file in a range of 2000 HU is --sigma 0.02, bit for bit."""
        path = write_dicom(tmp_path, RNG.integers(0, 4000, (12, 16), np.uint16))
        line = ("restore", path, "--problem", "denoise", "--prior", prior, "--range=-1024,976")
        quick = ("--solver", "diffpir", "--steps", 2, "--samples", 2, "--device", "cpu")
        for out, sigma in (("a", (0.02,)), ("b", (20, "--sigma-units", "file"))):
            status, text, err = run(
                capsys, *line, *quick, "--sigma", *sigma, "--out", tmp_path / out
            )
            assert status == 0, err
        assert "-1024 to 976 HU" in text and "HU, mean standard deviation" in text
        one, two = (read_posterior(tmp_path / out / "posterior.npz")[0] for out in ("a", "b"))
        assert np.array_equal(one["draws"], two["draws"])
        report = json.loads((tmp_path / "b/report.json").read_text())
        assert report["sigma"] == 0.02 and report["in_file_values"]["units"] == "HU"
        assert report["in_file_values"]["sigma"] == pytest.approx(20)
        own, header = read_posterior(tmp_path / "b/posterior.npz", "file")
        assert "--sigma-units file" in header["command"].replace(" \\\n    ", " ")
        np.testing.assert_allclose(own["std"], 1000 * two["std"], rtol=1e-6)
        np.testing.assert_allclose(own["mean"], tifffile.imread(tmp_path / "b/mean.tif")[None])
        assert own["std"].mean() == pytest.approx(report["in_file_values"]["mean_std"], rel=1e-5)
        for more, message in (
            (("--sigma-units", "file"), "does nothing without a number"),
            (("--sigma", 1, "--sigma-units", "HU"), "unknown unit of sigma 'HU'"),
        ):
            status, _, err = run(capsys, *line, *quick, *more, "--out", tmp_path / "c")
            assert status == 2 and message in err and err.count("\n") == 1

    @pytest.mark.slow
    def test_a_prior_remembers_its_range(self, prior: str, tmp_path: Path) -> None:
        """What -1 and 1 were in training they are in a restoration, for numbers of one unit."""
        own, card = load_score_prior(prior), {"data": {"low": [-1000.0] * 3, "high": [1000.0] * 3}}
        path = write_dicom(tmp_path, RNG.integers(0, 4000, (12, 16), np.uint16))
        for units in ("HU", None):
            own.card = {"data": card["data"] | {"units": units}}
            save_prior(own, tmp_path / "own.safetensors")
            trained = str(tmp_path / "own.safetensors")
            if units is None:
                with pytest.raises(InputError, match="say which are black and white"):
                    restored(path, trained, tmp_path / "none")
                continue
            result = restored(path, trained, tmp_path / "out")
            assert result.report["read"]["range"] == [-1000, 1000]
            given = restored(path, trained, tmp_path / "given", range="-1024,976")
            assert given.report["read"]["range"] == [-1024, 976]

    def test_priors_of_other_channels(self, tmp_path: Path) -> None:
        torch.manual_seed(0)
        network = UNet(UNetConfig(channels=2, widths=(8,), blocks=1, attention=()))
        save_prior(ScorePrior(network, EDMSDE(), (2, 16, 16)), tmp_path / "two.safetensors")
        np.save(tmp_path / "a.npy", np.full((12, 16), 0.5 + 0.1j))
        with pytest.raises(InputError, match="has 2 channels, and pictures of 1 or 3 are written"):
            restored(
                tmp_path / "a.npy", str(tmp_path / "two.safetensors"), tmp_path / "o", range="-1,1"
            )


def test_folders_and_manifests(brain: Path, tmp_path: Path) -> None:
    """Files of instruments are found in a folder; a manifest may select their slices."""
    (tmp_path / "list.csv").write_text("image,select\nbrain.nii.gz,z=1 x=2:8\n")
    problem, options = ProblemOptions("denoise"), RestoreOptions()
    assert [job.image for job in list_jobs(tmp_path, problem, options)] == [brain]
    (job,) = list_jobs(tmp_path / "list.csv", problem, options)
    assert job.problem.select == ("z=1", "x=2:8")


class TestRefusals:
    @pytest.mark.slow
    def test_a_slice_with_holes_is_named(self, prior: str, tmp_path: Path) -> None:
        import nibabel

        holes = VOLUME.copy()
        holes[1, 2, 3] = np.nan
        nibabel.save(nibabel.Nifti1Image(holes, AFFINE), tmp_path / "a.nii")
        with pytest.raises(InputError, match=r"a\.nii at z=3 has 1 values that are NaN"):
            restored(tmp_path / "a.nii", prior, tmp_path / "out", range="0,1000")
        assert not (tmp_path / "out").exists()
        clean = restored(
            tmp_path / "a.nii", prior, tmp_path / "out", range="0,1000", select=("z=:3",)
        )
        assert len(clean.report["slices"]) == 3

    def test_a_format_without_pages(self, prior: str, brain: Path, tmp_path: Path) -> None:
        more = {"output": OutputOptions("png16")}
        with pytest.raises(InputError, match="png16 has no pages for 4 slices; use tiff"):
            restored(brain, prior, tmp_path / "out", more=more, range="0,1000")

    @pytest.mark.slow
    def test_the_command_line(
        self, capsys: pytest.CaptureFixture[str], prior: str, brain: Path, tmp_path: Path
    ) -> None:
        import zarr

        store = zarr.create_array(str(tmp_path / "a.zarr"), shape=(4, 12, 16), dtype="f4")
        store[:] = VOLUME.transpose(2, 0, 1)
        line = ("restore", tmp_path / "a.zarr", "--problem", "denoise", "--prior", prior)
        quick = ("--sigma", 0.05, "--solver", "diffpir", "--steps", 1, "--samples", 1)
        quick = (*quick, "--device", "cpu", "--range", "0,1000", "--out", tmp_path / "out")
        status, out, err = run(capsys, *line, *quick, "--select", "0=:2")
        assert status == 0, err
        assert "slices       2, 0=0 to 0=1" in out
        for more, message in (
            ((), "zarr, float32, shape (4, 12, 16), float32) may be a stack of pictures; say so"),
            (("--select", "z=1"), "has no axis 'z'; its axes are 0 to 2"),
            (("--array", "b"), "has no array 'b'"),
        ):
            status, out, err = run(capsys, *line, *quick, *more)
            assert (status, out, err.count("\n")) == (2, "", 1) and message in err, err
        tifffile.imwrite(tmp_path / "one.tif", np.zeros((12, 16), np.uint8))
        one = ("restore", tmp_path / "one.tif", *line[2:], *quick, "--select", "z=1")
        status, _, err = run(capsys, *one)
        assert status == 2 and "--select is for stacks and arrays" in err
