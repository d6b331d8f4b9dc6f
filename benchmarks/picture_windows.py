"""Pictures in windows: peak memory, time, and the steps across seams.

    python benchmarks/picture_windows.py [--megapixels 1 12] [--side 512] [--solver hqs]
        [--samples 2]

A TIFF is restored from file to file with the denoiser that costs nothing, in a process of its own,
whose memory is looked at a hundred times a second: all of it, and what is not backed by a file.
Cells are kept in picture_windows.json. Files are written below ``--scratch``, which must lie on a
disk.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from large_pictures import picture, watched
from tables import RESULTS, Cells, table, write_page


def restored(image: str, out: str, side: str, solver: str, samples: str) -> None:
    """Restore with the denoiser that costs nothing, in this process."""
    from scoresde.pipelines.cost import Shrinkage
    from scoresde.pipelines.settings import ProblemOptions, RestoreOptions, WindowOptions
    from scoresde.pipelines.windows import restore_windows
    from scoresde.sde import EDMSDE

    options = RestoreOptions(
        solver=solver, steps=4, samples=int(samples), sigma=0.1, device="cpu", prior="natural"
    )
    prior, windows = Shrinkage(EDMSDE(), (3, 64, 64)), WindowOptions(int(side))
    problem = ProblemOptions("denoise")
    restore_windows(Path(image), problem, options, Path(out), windows, prior=prior)


def run(megapixels: float, a: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Restore one picture; time, memory, and the memory of a process that does nothing."""
    image, out = root / "picture.tif", root / "out"
    size = picture(image, megapixels)
    own = [__file__, "--worker", str(image), str(out), str(a.side), a.solver, str(a.samples)]
    empty = watched([sys.executable, "-c", "import scoresde.pipelines.windows"], root)
    found = watched([sys.executable, *own], root)
    report = json.loads((out / "report.json").read_text())
    cell = {"size": size, "side": a.side, "solver": a.solver, "samples": a.samples}
    cell |= {"windows": report["windows"]["count"], "seam": report["seam"]}
    return cell | {"empty": empty["peak"]} | found


def page(cells: Cells) -> list[str]:
    """The table of all cells that are kept."""
    rows = [
        [f"{one['size'][1]}×{one['size'][0]}", one["side"], one["windows"], one["solver"],
         one["samples"], f"{one['seconds']:.0f}", f"{one['peak']:.0f}", f"{one['anonymous']:.0f}",
         f"{one['empty']:.0f}", f"{one['seam']:.3f}"]
        for one in sorted(
            cells.under("run "), key=lambda c: (c["solver"], c["side"], c["size"])
        )
    ]  # fmt: skip
    head = ["picture", "side", "windows", "solver", "draws", "seconds", "peak MB", "no file",
            "empty", "seam"]  # fmt: skip
    return [
        "# Pictures in windows",
        "",
        "Peak memory of `restore_windows` from TIFF to TIFF (denoise, colour, 4 steps) with a "
        "denoiser of no cost: of all, without what lies in files, and of a process that has only "
        "imported the package. Seam: steps of the mean across seams over those beside them.",
        "",
        "`python benchmarks/picture_windows.py`",
        "",
        *table(head, rows),
    ]


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        restored(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, nargs="*", default=[])
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--solver", default="hqs")
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    a = parser.parse_args()
    cells = Cells(a.out / "picture_windows.json")
    for megapixels in a.megapixels:
        with tempfile.TemporaryDirectory(dir=a.scratch) as place:
            key = f"run {megapixels:g} {a.side} {a.solver} {a.samples}"
            cells.put(key, run(megapixels, a, Path(place)))
        write_page(a.out / "picture_windows.md", page(cells))
    write_page(a.out / "picture_windows.md", page(cells))


if __name__ == "__main__":
    main()
