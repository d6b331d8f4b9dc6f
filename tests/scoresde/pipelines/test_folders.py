"""Many pictures: listed, restored once, gone on with after any end."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from filelock import FileLock
from PIL import Image
from torch import nn

from scoresde import EDMSDE, InputError, ScorePrior, save_prior
from scoresde.errors import CannotWriteError
from scoresde.networks import UNet, UNetConfig
from scoresde.pipelines.folders import FolderOptions, list_jobs, names_many, restore_folder
from scoresde.pipelines.folders.content import DONE, content_key
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from tests.commands import run

SIDE = 16
DENOISE = ProblemOptions("denoise")


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network, which is as fast as it is bad."""
    path = tmp_path_factory.mktemp("prior") / "prior.safetensors"
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, attention=(), embedding=16))
    nn.init.normal_(network.head.weight, std=0.05)
    save_prior(ScorePrior(network, EDMSDE(), (3, SIDE, SIDE)), path)
    return path


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three pictures, one of them in a folder, a file that is none, and a hidden one."""
    folder = tmp_path / "photographs"
    for i, name in enumerate(("a.png", "b.png", "below/c.png")):
        picture(folder / name, i)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "._a.png").write_bytes(b"notes of a system")
    (folder / "notes.txt").write_text("no picture either")
    return folder


def options(prior: Path, **changes: Any) -> RestoreOptions:
    settings = {"sigma": 0.1, "solver": "hqs", "steps": 2, "samples": 1, "device": "cpu"}
    return RestoreOptions(**settings | {"prior": str(prior)} | changes)  # type: ignore[arg-type]


def results(out: Path) -> dict[str, bytes]:
    """The pictures and numbers of a run."""
    kinds = ("*.png", "*.npz")
    return {str(p.relative_to(out)): p.read_bytes() for kind in kinds for p in out.rglob(kind)}


# ---- which pictures


def test_a_folder_with_its_subfolders(photographs: Path) -> None:
    jobs = list_jobs(photographs, DENOISE, RestoreOptions())
    assert [job.name for job in jobs] == ["a", "b", "below/c", "broken"]
    assert [job.image for job in jobs][2] == photographs / "below/c.png"


def test_results_within_the_folder_are_no_pictures(photographs: Path) -> None:
    picture(photographs / "out/a/mean.png")
    assert len(list_jobs(photographs, DENOISE, RestoreOptions(), photographs / "out")) == 4
    with pytest.raises(InputError, match="is the folder of the pictures"):
        list_jobs(photographs, DENOISE, RestoreOptions(), photographs)


def test_a_pattern(photographs: Path) -> None:
    jobs = list_jobs(f"{photographs}/**/*.png", DENOISE, RestoreOptions())
    assert [job.name for job in jobs] == ["a", "b", "below/c", "broken"]
    assert [j.name for j in list_jobs(f"{photographs}/[ab].png", DENOISE, RestoreOptions())] == [
        "a",
        "b",
    ]


def test_names_of_many(photographs: Path) -> None:
    assert names_many(photographs) and names_many("x/*.png") and names_many("list.csv")
    odd = picture(photographs / "odd[1].png")
    assert not names_many(odd) and not names_many("photo.png")


def test_pictures_that_differ_in_the_suffix_keep_it(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif", "b.png"):
        picture(tmp_path / name)
    jobs = list_jobs(tmp_path, DENOISE, RestoreOptions())
    assert [job.name for job in jobs] == ["a.png", "a.tif", "b"]


def test_a_manifest_has_options_for_each_row(photographs: Path) -> None:
    path = photographs / "list.csv"
    path.write_text(
        "image,mask,sigma,seed,invert_mask\na.png,m.png,0.2,,\nbelow/c.png,,,7,yes\n",
        encoding="utf-8-sig",  # as spreadsheets write it
    )
    first, second = list_jobs(path, ProblemOptions("inpaint", random=0.5), RestoreOptions(seed=1))
    assert first.problem == ProblemOptions("inpaint", mask=photographs / "m.png", random=0.5)
    assert (first.options.sigma, first.options.seed) == (0.2, 1)
    assert second.problem == ProblemOptions("inpaint", invert_mask=True, random=0.5)
    assert (second.options.sigma, second.options.seed, second.name) == (None, 7, "below/c")


def test_a_manifest_takes_the_words_of_options(photographs: Path) -> None:
    path = photographs / "list.csv"
    path.write_text("image,sigma,sigma_units,gaussian\na.png,auto,,auto\nb.png,3,file,1.5\n")
    first, second = list_jobs(path, ProblemOptions("deblur"), RestoreOptions())
    assert (first.options.sigma, first.problem.gaussian) == ("auto", "auto")
    assert first.options.sigma_units == "picture" and second.options.sigma_units == "file"
    assert (second.options.sigma, second.problem.gaussian) == (3.0, 1.5)


def test_a_folder_of_zarr_is_one_picture(tmp_path: Path) -> None:
    """Its key is that of all of its chunks, each under its name."""
    import zarr

    store = zarr.create_array(
        str(tmp_path / "in/a.zarr"), shape=(2, 8, 8), chunks=(1, 8, 8), dtype="f4"
    )
    store[0], store[1] = 1.0, 2.0
    keys = set()
    for _ in range(2):
        (job,) = list_jobs(tmp_path / "in", DENOISE, RestoreOptions())
        assert (job.image.name, job.name) == ("a.zarr", "a")
        keys |= {content_key(job, "prior") for _ in range(2)}
        store[0], store[1] = 2.0, 1.0
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "headings with the column image"),
        ("picture\na.png\n", "headings with the column image"),
        ("image\n", "no pictures in"),
        ("image,sgima\na.png,1\n", "did you mean 'sigma'"),
        ("image,prior\na.png,natural\n", "is for all pictures"),
        ("image,sigma\na.png,much\n", r"line 2: sigma must be a number or auto, got 'much'"),
        ("image,sigma_units\na.png,furlongs\n", "line 2: unknown sigma_units 'furlongs'; known"),
        ("image,seed\na.png,1.5\n", "must be a whole number"),
        ("image,invert_mask\na.png,maybe\n", "yes or no"),
        ("image,sigma\n,1\n", "line 2 names no image"),
        ("image\na.png,2\n", "more cells than there are headings"),
        ("image\na.png\na.png\n", "a.png is named twice"),
        ("image,image\na.png,a.png\n", "write each heading once"),
    ],
)
def test_a_manifest_that_is_wrong(photographs: Path, text: str, message: str) -> None:
    path = photographs / "list.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        list_jobs(path, DENOISE, RestoreOptions())


def test_nothing_to_restore(tmp_path: Path) -> None:
    for source in (tmp_path, f"{tmp_path}/*.png"):
        with pytest.raises(InputError, match="no pictures in"):
            list_jobs(source, DENOISE, RestoreOptions())
    with pytest.raises(InputError, match="cannot read the manifest"):
        list_jobs(tmp_path / "none.csv", DENOISE, RestoreOptions())


# ---- what is done


@pytest.mark.slow
def test_bad_files_are_listed_and_the_others_done(photographs: Path, prior: Path) -> None:
    out = photographs.parent / "out"
    fractions: list[float] = []
    jobs = list_jobs(photographs, DENOISE, options(prior))
    result = restore_folder(jobs, out, simulate=True, progress=fractions.append)
    assert [row.status for row in result.rows] == ["restored"] * 3 + ["failed"]
    assert "no known picture format" in str(result.rows[3].error)
    assert result.rows[0].psnr is not None and (out / "below/c/mean.png").is_file()
    assert fractions == sorted(fractions) and fractions[-1] == 1
    report = json.loads((out / "summary.json").read_text())
    assert (report["restored"], report["kept"], report["failed"], report["left"]) == (3, 0, 1, 0)
    with (out / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["folder"] for row in rows] == ["a", "b", "below/c", "broken"]
    assert float(rows[0]["psnr"]) == result.rows[0].psnr and rows[3]["seconds"] == ""


@pytest.mark.slow
def test_whole_results_of_the_same_content_are_kept(photographs: Path, prior: Path) -> None:
    out = photographs.parent / "out"
    (photographs / "broken.png").unlink()
    mask = photographs.parent / "mask.png"

    def statuses(**changes: Any) -> list[str]:
        problem = ProblemOptions("inpaint", mask=mask)
        jobs = list_jobs(photographs, problem, replace(options(prior), **changes))
        return [row.status for row in restore_folder(jobs, out).rows]

    def paint(top: int) -> None:
        missing = np.zeros((SIDE, SIDE), np.uint8)
        missing[top : top + 4, 3:9] = 255
        Image.fromarray(missing).save(mask)

    paint(2)
    kept, again = ["kept"] * 3, ["restored"] * 3
    assert statuses() == again
    before = results(out)
    assert statuses(batch=1) == kept  # it changes no result
    assert results(out) == before
    (out / "b/mean.png").write_bytes(b"cut")
    (out / "b/.mean.png.0123456789abcdef").write_bytes(b"of a run that was killed")
    assert statuses() == ["kept", "restored", "kept"]
    assert results(out) == before and not (out / "b/.mean.png.0123456789abcdef").exists()
    picture(photographs / "a.png", 9)
    assert statuses() == ["restored", "kept", "kept"]
    paint(7)
    assert statuses() == again
    assert statuses(sigma=0.2) == again
    torch.manual_seed(1)
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, attention=(), embedding=16))
    other = photographs.parent / "other.safetensors"
    save_prior(ScorePrior(network, EDMSDE(), (3, SIDE, SIDE)), other)
    assert statuses(sigma=0.2, prior=str(other)) == again
    (out / "a" / DONE).write_text('{"format": "scoresde.done/2"}')
    assert statuses(sigma=0.2, prior=str(other)) == ["restored", "kept", "kept"]


def test_two_runs_in_one_folder(photographs: Path, prior: Path) -> None:
    out = photographs.parent / "out"
    out.mkdir()
    with FileLock(out / ".lock"), pytest.raises(InputError, match="another process is restoring"):
        restore_folder(list_jobs(photographs, DENOISE, options(prior)), out)


def test_what_cannot_be_written_ends_the_run(photographs: Path, prior: Path) -> None:
    out = photographs.parent / "out"
    out.mkdir()
    (out / "b").write_text("a file where a folder should be")
    with pytest.raises(CannotWriteError, match="cannot write into"):
        restore_folder(list_jobs(photographs, DENOISE, options(prior)), out)
    report = json.loads((out / "summary.json").read_text())
    assert (report["restored"], report["left"]) == (1, 3)


def test_a_picture_that_changes_while_it_is_read(photographs: Path, prior: Path) -> None:
    jobs = list_jobs(photographs / "a*.png", DENOISE, options(prior))

    def change(fraction: float) -> None:
        picture(photographs / "a.png", 5)

    result = restore_folder(jobs, photographs.parent / "out", progress=change)
    assert "changed while it was read" in str(result.rows[0].error)


# ---- the command


def line(photographs: Path, prior: Path, out: Path, *more: object) -> tuple[object, ...]:
    how = ("--solver", "hqs", "--steps", 2, "--sigma", 0.1, "--device", "cpu", "--prior", prior)
    return ("restore", photographs, "--problem", "denoise", *how, "--out", out, *more)


@pytest.mark.slow
def test_the_command(
    capsys: pytest.CaptureFixture[str], photographs: Path, prior: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, text, err = run(capsys, *line(photographs, prior, out, "--dry-run"))
    assert code == 0 and not out.exists()
    assert "4 pictures, 0 of them done" in text and "unreadable" in text
    code, text, err = run(capsys, *line(photographs, prior, out))
    assert code == 3 and "3 restored, 0 kept, 1 failed" in text
    assert "broken.png: cannot read" in err
    code, text, _ = run(capsys, *line(photographs, prior, out, "--json"))
    assert code == 3 and json.loads(text) == json.loads((out / "summary.json").read_text())
    (photographs / "broken.png").unlink()
    code, text, err = run(capsys, *line(photographs, prior, out))
    assert (code, err) == (0, "") and "0 restored, 3 kept, 0 failed" in text
    code, text, _ = run(capsys, *line(photographs, prior, out, "--dry-run", "--json"))
    assert code == 0 and json.loads(text)["kept"] == 3
    code, _, err = run(capsys, *line(photographs / "a.png", prior, out, "--watch"))
    assert code == 2 and "is one picture" in err


def start(arguments: tuple[object, ...]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scoresde", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.02)


HOW = ("--samples", 2, "--solver", "mmps", "--steps", 4)


MANY = 4


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures."""
    folder = tmp_path_factory.mktemp("several") / "photographs"
    for i in range(MANY):
        picture(folder / f"{i}.png", i)
    return folder


def in_this_process(folder: Path, prior: Path, out: Path) -> Any:
    settings = options(prior, samples=2, solver="mmps", steps=4)
    return restore_folder(list_jobs(folder, DENOISE, settings), out)


@pytest.fixture(scope="module")
def undisturbed(prior: Path, several: Path) -> Path:
    """Results of a run that nothing disturbs."""
    in_this_process(several, prior, several.parent / "undisturbed")
    return several.parent / "undisturbed"


def same_pictures(one: Path, other: Path) -> None:
    """posterior.npz has the command, and with it the name of the folder."""
    found, expected = results(one), results(other)
    assert len(expected) >= MANY * 5 and found.keys() == expected.keys()
    for name in expected:
        assert name.endswith(".npz") or found[name] == expected[name], name


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on(
    prior: Path, tmp_path: Path, several: Path, undisturbed: Path
) -> None:
    """To the same bits as one that nothing disturbed."""
    out = tmp_path / "out"
    call = line(several, prior, out, *HOW)
    process = start(call)
    wait_for(out / "0" / DONE, process)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    first = {path.parent.name for path in out.glob(f"*/{DONE}")}
    assert json.loads((out / "summary.json").read_text())["left"] == MANY - len(first) > 0
    assert not [path for path in out.rglob(".*") if path.name != ".lock"]
    process = start(call)
    wait_for(out / f"{len(first)}" / DONE, process)
    process.kill()
    process.communicate(timeout=60)
    done = {path.parent.name for path in out.glob(f"*/{DONE}")}
    assert first < done and len(done) < MANY
    last = in_this_process(several, prior, out)
    assert (len(last.of("kept")), len(last.of("restored"))) == (len(done), MANY - len(done))
    same_pictures(out, undisturbed)


@pytest.mark.slow
def test_the_pictures_of_a_worker_that_is_killed_are_done_by_others(
    prior: Path, tmp_path: Path, several: Path, undisturbed: Path
) -> None:
    pytest.importorskip("distributed")
    out = tmp_path / "out"
    process = start(line(several, prior, out, *HOW, "--workers", 2))
    wait_for(out / "0" / DONE, process)
    spawned = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]
    assert len(spawned) == 2
    spawned[0].kill()
    text, err = process.communicate(timeout=300)
    assert process.returncode == 0 and ", 0 failed" in text, err
    # a picture that the worker had finished and not yet told of is found done
    counts = (f"{MANY} restored, 0 kept", f"{MANY - 1} restored, 1 kept")
    assert any(one in text for one in counts), text
    same_pictures(out, undisturbed)


def test_a_scheduler_that_does_not_answer(photographs: Path, prior: Path) -> None:
    pytest.importorskip("distributed")
    jobs = list_jobs(photographs, DENOISE, options(prior))
    how = FolderOptions(scheduler="tcp:/no")
    with pytest.raises(InputError, match="no scheduler answers at tcp:/no"):
        restore_folder(jobs, photographs.parent / "out", options=how)
    with pytest.raises(InputError, match="--workers must be at least 1"):
        restore_folder(jobs, photographs.parent / "out", options=FolderOptions(0))
