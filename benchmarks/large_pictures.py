"""Large pictures: peak memory and time of restorations, and the seams of tiles.

    python benchmarks/large_pictures.py [--megapixels 1 4 24] [--network 1 24] [--seams]

The memory of a restoration is counted in pictures in single precision, 12 bytes for each pixel in
colour. Whatever the network, a tile of it adds the same. ``--megapixels`` restores pictures with a
denoiser that costs nothing, the exact one of white Gaussian pictures, through the same functions as
the command line; ``--network`` with the embedded prior through the command line itself. Each run is
a process of its own, whose memory is looked at a hundred times a second: all of it, and what is not
backed by a file, which the system cannot take away. ``--seams`` compares denoisers with and without
tiles. Cells are kept in large_pictures.json, so that long runs can be added one by one. Files are
written below ``--scratch``, which must lie on a disk.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tifffile
from tables import RESULTS, Cells, table, write_page

STATE = 12  # bytes of a pixel in colour
OVERLAPS = (0, 16, 32, 48, 64, 96)
DISTANCES = (0, 4, 8, 16, 24, 32, 48, 64)  # of columns from the edge of a tile


def picture(path: Path, megapixels: float) -> tuple[int, int]:
    """Write waves with noise as a TIFF of 3 x 2 shape; its height and width."""
    height, width = (int((megapixels * 1e6 * f) ** 0.5) // 8 * 8 for f in (1 / 1.5, 1.5))
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    waves = 127 + 60 * np.sin(x / 37) * np.cos(y / 51)
    pixels = np.empty((height, width, 3), np.uint8)
    for channel in range(3):
        noisy = waves + rng.normal(0, 13, waves.shape).astype(np.float32)
        pixels[..., channel] = noisy.clip(0, 255)
    tifffile.imwrite(path, pixels, photometric="rgb")
    return height, width


def watched(words: list[str], scratch: Path) -> dict[str, float]:
    """Run a process and watch its memory, in MB."""
    environment = os.environ | {"TMPDIR": str(scratch)}
    start, peak, anonymous = time.perf_counter(), 0, 0
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL)
    watch = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            memory = watch.memory_info()
        except psutil.NoSuchProcess:
            break
        peak = max(peak, memory.rss)
        anonymous = max(anonymous, memory.rss - getattr(memory, "shared", 0))
        time.sleep(0.01)
    if process.wait():
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": peak / 1e6, "anonymous": anonymous / 1e6}


def white(image: str, out: str, solver: str, steps: str, samples: str) -> None:
    """Restore with the denoiser that costs nothing, in this process."""
    from scoresde.pipelines.cost import Shrinkage
    from scoresde.pipelines.restore import restore
    from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
    from scoresde.sde import EDMSDE

    options = RestoreOptions(
        solver=solver, steps=int(steps) or None, samples=int(samples), sigma=0.1, device="cpu"
    )
    prior = Shrinkage(EDMSDE(), (3, 64, 64))
    restore(Path(image), ProblemOptions("denoise"), options, Path(out), prior=prior)


def run(kind: str, megapixels: float, a: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Restore one picture; time, memory, and the memory of a process that does nothing."""
    image, out = root / "picture.tif", root / "out"
    size = picture(image, megapixels)
    samples = "1" if a.solver in ("hqs", "pnp-admm") else str(a.samples)
    if kind == "white":
        own = [__file__, "--worker", str(image), str(out), a.solver, str(a.steps or 0), samples]
    else:
        own = ["-m", "scoresde", "restore", str(image), "--problem", "denoise", "--sigma", "0.1"]
        own += ["--solver", a.solver, "--samples", samples, "--device", "cpu", "--out", str(out)]
        own += ["--steps", str(a.steps)] if a.steps else []
    empty = watched([sys.executable, "-c", "import scoresde.pipelines.restore"], root)
    found = watched([sys.executable, *own], root)
    cell = {"size": size, "solver": a.solver, "steps": a.steps, "samples": int(samples)}
    return cell | {"prior": kind, "empty": empty["peak"]} | found


def seams(side: int = 320, tile: int = 192) -> list[dict[str, float]]:
    """Largest and root mean square difference of tiled and whole denoisers, by overlap."""
    import torch
    from skimage import data

    from scoresde import TiledPrior, load_prior
    from solvers.samplers.grid import time_at

    x = torch.from_numpy(data.chelsea()[:side, :side].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    prior, rows = load_prior("natural").precise(), []
    with torch.no_grad():
        for s in (0.05, 0.3, 2.0):
            t = time_at(prior, torch.tensor(s))
            x_t = prior.sde.alpha(t) * (x + s * noise)
            whole = prior.denoise(x_t, t)
            for overlap in OVERLAPS:
                error = TiledPrior(prior, tile, overlap).denoise(x_t, t) - whole
                rms, worst = float(error.square().mean().sqrt()), float(error.abs().max())
                rows.append({"s": s, "overlap": overlap, "rms": rms, "largest": worst})
    return rows


def edges(side: int = 256, tile: int = 160) -> list[dict[str, Any]]:
    """Error of a tile against the whole picture, by the distance from its inner edge."""
    import torch
    from skimage import data

    from scoresde import load_prior
    from solvers.samplers.grid import time_at

    x = torch.from_numpy(data.chelsea()[:side, :side].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    prior, rows = load_prior("natural").precise(), []
    with torch.no_grad():
        for s in (0.05, 0.3, 2.0):
            t = time_at(prior, torch.tensor(s))
            x_t = prior.sde.alpha(t) * (x + s * noise)
            error = prior.denoise(x_t[..., :tile], t) - prior.denoise(x_t, t)[..., :tile]
            rms = error.square().mean((0, 1, 2)).sqrt().flip(0)
            parts = zip(DISTANCES, (*DISTANCES[1:], tile // 2), strict=True)
            rows.append({"s": s, "rms": [float(rms[a:b].mean()) for a, b in parts]})
    return rows


def page(cells: Cells) -> list[str]:
    """The tables of all cells that are kept."""
    head = ["megapixels", "prior", "solver", "steps", "draws", "seconds", "peak MB", "no file",
            "pictures held"]  # fmt: skip
    rows = []
    for one in sorted(cells.under("run "), key=lambda c: (c["prior"], c["size"], c["solver"])):
        pixels = one["size"][0] * one["size"][1]
        held = (one["peak"] - one["empty"]) * 1e6 / (STATE * pixels)
        rows.append(
            [f"{pixels / 1e6:.3g}", one["prior"], one["solver"], one["steps"] or "default",
             one["samples"], f"{one['seconds']:.0f}", f"{one['peak']:.0f}",
             f"{one['anonymous']:.0f}", f"{held:.1f}"]
        )  # fmt: skip
    text = [
        "# Large pictures",
        "",
        "Peak memory of whole restorations (denoise, colour, two cores): of all, and without what "
        "lies in files. Pictures held: what a process takes above one that has only imported the "
        "package, in pictures of 12 bytes for each pixel. The prior `white` costs nothing and has "
        "no network, whose tile adds 0.4 GB at most.",
        "",
        "`python benchmarks/large_pictures.py`",
        "",
        *table(head, rows),
    ]
    found = cells.get("seams")
    if found:
        head = ["noise", "overlap", "root mean square", "largest difference"]
        rows = [
            [one["s"], one["overlap"], f"{one['rms']:.1e}", f"{one['largest']:.1e}"]
            for one in found
        ]
        text += [
            "",
            "Denoiser in tiles of 192 pixels against the whole picture of 320, on [-1, 1] (chelsea "
            "of scikit-image, prior `natural`, float32):",
            "",
            *table(head, rows),
        ]
    found = cells.get("edges")
    if found:
        text += [
            "",
            "One tile of 256×160 against the picture of 256×256, root mean square by the distance "
            "from the inner edge in pixels. Tiles are not used within a quarter of the overlap "
            "from their inner edges. The network has no attention and looks as far as its "
            "convolutions reach, farther the louder the noise:",
            "",
            *table(
                ["noise", *(f"from {d}" for d in DISTANCES)],
                ([one["s"], *(f"{v:.1e}" for v in one["rms"])] for one in found),
            ),
        ]
    return text


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        white(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, nargs="*", default=[])
    parser.add_argument("--network", type=float, nargs="*", default=[])
    parser.add_argument("--seams", action="store_true")
    parser.add_argument("--solver", default="warm-start")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    cells = Cells(a.out / "large_pictures.json")
    for kind, sizes in (("white", a.megapixels), ("natural", a.network)):
        for megapixels in sizes:
            with tempfile.TemporaryDirectory(dir=a.scratch) as place:
                key = f"run {kind} {megapixels:g} {a.solver} {a.steps} {a.samples}"
                cells.put(key, run(kind, megapixels, a, Path(place)))
            write_page(a.out / "large_pictures.md", page(cells))
    if a.seams:
        cells.put("seams", seams())
        cells.put("edges", edges())
    write_page(a.out / "large_pictures.md", page(cells))


if __name__ == "__main__":
    main()
