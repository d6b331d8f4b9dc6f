"""A folder of pictures: its throughput, and what is left after workers and runs are killed.

    python benchmarks/folders.py

Crops of photographs of scikit-image, denoised by hqs. The folder is restored by one process and by
two workers, and some of its pictures by a call each. Then a run with two workers is killed at
random times (kill -9), a worker and the parent in turn, until it was killed often enough or has
ended, in as many folders as it takes; each is then compared with that of a run that nothing
disturbed. Writes folders.json and folders.md.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from skimage import data
from tables import RESULTS, table, write_json, write_page

from scoresde.pipelines.posterior_file import read_posterior

SOURCES = ("astronaut", "chelsea", "coffee", "rocket")


def pictures(folder: Path, count: int, side: int) -> None:
    """Crops at random places, the same in each run."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    for i in range(count):
        image = getattr(data, SOURCES[i % len(SOURCES)])()
        top, left = (rng.randrange(size - side) for size in image.shape[:2])
        crop = image[top : top + side, left : left + side]
        Image.fromarray(crop).save(folder / f"{i:04}.png")


def command(source: Path, out: Path, *more: str) -> list[str]:
    how = ["--problem", "denoise", "--sigma", "0.1", "--simulate", "--solver", "hqs"]
    return [
        sys.executable,
        "-m",
        "scoresde",
        "restore",
        str(source),
        *how,
        *more,
        "--out",
        str(out),
    ]


def timed(words: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - start


def difference(one: Path, other: Path) -> list[str]:
    """Files that differ; of posterior.npz the arrays, since its header has the command."""
    wrong = []
    names = {str(p.relative_to(other)) for kind in ("*.png", "*.npz") for p in other.rglob(kind)}
    for name in sorted(names):
        if not (one / name).exists():
            wrong.append(f"{name} is missing")
        elif name.endswith(".npz"):
            ours, theirs = (read_posterior(folder / name)[0] for folder in (one, other))
            same = ours.keys() == theirs.keys() and all(
                np.array_equal(ours[key], theirs[key], equal_nan=True) for key in theirs
            )
            if not same:
                wrong.append(name)
        elif (one / name).read_bytes() != (other / name).read_bytes():
            wrong.append(name)
    return wrong


def kill_at_random(source: Path, out: Path, kills: int, longest: float) -> int:
    """Run with two workers and kill it, a worker and the parent in turn; kills that were made."""
    rng, made = random.Random(1), 0
    while made < kills:
        with subprocess.Popen(
            command(source, out, "--workers", "2"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            time.sleep(rng.uniform(0.3, 1.0) * longest)
            if process.poll() is not None:
                shutil.rmtree(out)  # it was finished: begin again
                continue
            parent = psutil.Process(process.pid)
            children = [
                one for one in parent.children(True) if "spawn_main" in " ".join(one.cmdline())
            ]
            if made % 2 == 0 and children:
                rng.choice(children).kill()
                made += 1
                process.wait()
                assert process.returncode == 0
                if made < kills:
                    shutil.rmtree(out)
            else:
                parent.kill()
                made += 1
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--single", type=int, default=10)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--killed-pictures", type=int, default=40, help="of the killed runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        source = root / "pictures"
        pictures(source, a.pictures, a.side)
        one = timed(command(source, root / "one"))
        two = timed(command(source, root / "two", "--workers", "2"))
        first = sorted(source.iterdir())[: a.single]
        single = [timed(command(path, root / "single" / path.stem)) for path in first]
        again = timed(command(source, root / "one"))
        wrong = difference(root / "two", root / "one")
        some = root / "some"
        pictures(some, a.killed_pictures, a.side)
        undisturbed = timed(command(some, root / "some-one", "--workers", "2"))
        made = kill_at_random(some, root / "killed", a.kills, undisturbed)
        timed(command(some, root / "killed", "--workers", "2"))
        wrong_killed = difference(root / "killed", root / "some-one")
    found = {
        "pictures": a.pictures,
        "side": a.side,
        "killed_pictures": a.killed_pictures,
        "seconds": {"one": one, "two": two, "single": single, "again": again},
        "kills": made,
        "different": {"two": wrong, "killed": wrong_killed},
    }
    write_json(found, a.out / "folders.json")
    each = sum(single) / len(single)
    rows = [
        ["a call for each picture", f"{each:.2f}", "1"],
        ["a folder, one process", f"{one / a.pictures:.2f}", f"{each / (one / a.pictures):.1f}"],
        ["a folder, two workers", f"{two / a.pictures:.2f}", f"{each / (two / a.pictures):.1f}"],
        ["a folder that is done", f"{again / a.pictures:.3f}", "–"],
    ]
    text = [
        "# Folders of pictures",
        "",
        f"{a.pictures} crops of {a.side}×{a.side} pixels, denoised by hqs, with all files that a "
        f"restoration writes. Calls for each picture: {a.single} of them. Two cores.",
        "",
        "`python benchmarks/folders.py`",
        "",
        *table(["", "seconds per picture", "times as fast"], rows),
        "",
        f"Files that differ between one process and two workers: {len(wrong)}. After {made} "
        f"times kill -9 at random times of runs of {a.killed_pictures} pictures, of a worker and "
        f"of the parent in turn, and a last run: {len(wrong_killed)} files differ from those of an "
        "undisturbed run.",
    ]
    write_page(a.out / "folders.md", text)


if __name__ == "__main__":
    main()
