"""Speed of restoring and training, side by side with what it can be compared to.

    python benchmarks/speed.py --images PATH/bsds500/val

Five parts, each a table of medians with the two sides measured in turns:

- a: operations per second of a denoiser, of its products with the Jacobian, and of a training step,
  as shares of what plain 3x3 convolutions of the same shapes reach on the same machine;
- b: ``scoresde restore`` at an older commit and now, also in a hurry, on the same pictures;
- c: training beside a UNet2DModel of diffusers with as many parameters, in the same loop;
- d: pictures of one megapixel, and with --large of 24, in seconds and peak memory;
- e: a restoration while another process keeps one of two cores busy.

Each finished cell is kept in speed.json, so that an interrupted run resumes; --fresh measures the
chosen parts again. Writes speed.md beside it. Leave the machine alone meanwhile.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import scoresde  # noqa: F401  (before torch: it decides how threads wait)

# isort: split
import torch
from five_problems import PROBLEMS, SIDE, SIGMA
from peers import optional, skip
from rates import Convolutions, convolution_shapes, count_flops, median_ratio, timed
from tables import RESULTS, Cells, short_command, table, weights_id, write_page
from worker import DIFFUSERS, example

from scoresde.data.datasets import list_images
from scoresde.pipelines.devices import choose_device, open_prior
from scoresde.pipelines.settings import DEFAULT_SOLVER
from scoresde.training import RECIPES, build_prior
from scoresde.training.compiling import compilation_pays
from solvers import Guided, PosteriorSampler, make_solver
from solvers.jacobian import Linearisation

ROOT = Path(__file__).resolve().parent.parent
THEN = "8718161"
PARTS = ("a", "b", "c", "d", "e")
COMPARED = ("then", "now", "quick")  # of part b
SIZES = {"1 megapixel": (1000, 1000), "24 megapixels": (4000, 6000)}
NETWORKS = {
    "own": "UNet of the recipe",
    "diffusers": "UNet2DModel",
    "diffusers folded": "UNet2DModel on 2×2 folded pixels",
}
WARM_UP = 2  # jobs of every process that are not counted


class Worker:
    """A process of worker.py, from which one answer at a time is asked."""

    def __init__(
        self,
        role: str,
        settings: dict[str, Any],
        root: Path | None = None,
        cores: Sequence[int] | None = None,
    ) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(settings["threads"])}
        environment.pop("OMP_WAIT_POLICY", None)  # each package decides how its threads wait
        if root is not None:
            rest = environment.get("PYTHONPATH")
            environment["PYTHONPATH"] = f"{root}{os.pathsep}{rest}" if rest else str(root)
            settings = settings | {"root": str(root)}
        script = Path(__file__).with_name("worker.py")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(script), role, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=None if cores is None else lambda: os.sched_setaffinity(0, cores),
        )

    def ask(self, **job: Any) -> dict[str, Any]:
        """Send a job and wait for its answer."""
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a measured process has ended early; its message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            self.process.wait(30)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The files of a commit in a temporary folder."""

    def git(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)

    if git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise SystemExit(
            f"commit {commit} is not in this clone; fetch it (git fetch --unshallow), or leave out "
            "part b"
        )
    with tempfile.TemporaryDirectory() as folder:
        files = io.BytesIO(git("archive", commit).stdout)
        with tarfile.open(fileobj=files) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


@contextmanager
def busy(core: int) -> Iterator[None]:
    """Another process that keeps a core busy."""
    code = f"import os\nos.sched_setaffinity(0, {{{core}}})\nwhile True:\n    pass"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def products_per_evaluation(solver: PosteriorSampler) -> int:
    """Products with the Jacobian that a solver makes at most at each evaluation of the network.

    Those of the last step of a guided solver, which is a draw, do not count.
    """
    if isinstance(solver, Guided):
        return int(getattr(solver.guidance, "iterations", 1))
    correction = getattr(solver, "correction", solver)
    return getattr(solver, "lanczos", 0) + int(getattr(correction, "iterations", 1))


def part_a(a: argparse.Namespace, cells: Cells, setting: str) -> None:
    """Operations per second as shares of those of plain convolutions."""
    prior = open_prior(a.prior, a.device, "auto")
    x = example(SIDE, SIDE).to(a.device).repeat(a.batch, 1, 1, 1)
    x = x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    t = prior.sde.t_from_noise_to_signal(torch.tensor(0.3, dtype=torch.float64)).to(x)
    k = products_per_evaluation(make_solver(DEFAULT_SOLVER))

    def forward() -> None:
        with torch.no_grad():
            prior.denoise(x, t)

    def with_products() -> None:
        at = Linearisation(lambda u: prior.denoise(u, t), x)
        for _ in range(k):
            at.vjp(x)

    shapes, dtype = convolution_shapes(forward)
    plain = Convolutions(shapes, a.batch, dtype, a.device)
    both = Convolutions(shapes, a.batch, dtype, a.device, "input")
    jobs: list[tuple[str, Callable[[], None], Convolutions]] = [
        ("denoiser", forward, plain),
        (f"denoiser and {k} products", with_products, both),
    ]
    for name, run, same in jobs:
        key = f"a/{setting}/{name}"
        if key in cells:
            continue
        flops = count_flops(run)
        run()
        found = [(timed(run, a.device), plain.rate(), same.rate()) for _ in range(a.rounds)]
        cells.put(key, rates_cell(name, flops, found, dtype))
        print(f"a: {name}", flush=True)
    untrained = build_prior(RECIPES["natural"]).to(a.device)
    crops = torch.zeros(a.train_batch, 3, 64, 64, device=a.device)
    shapes, dtype = convolution_shapes(lambda: untrained.denoise(crops, 0.5))
    plain = Convolutions(shapes, a.train_batch, dtype, a.device)
    same = Convolutions(shapes, a.train_batch, dtype, a.device, "all")
    for compiled in compilations(a):
        name = "training step" + (", compiled" if compiled else "")
        key = f"a/{setting}/{name}"
        if key in cells:
            continue
        settings = train_settings(a, "own", compiled)
        with Worker("train", settings) as worker:
            for _ in range(WARM_UP):
                worker.ask()
            found, answer = [], {}
            for _ in range(a.rounds):
                answer = worker.ask()
                found.append((answer["seconds"], plain.rate(), same.rate()))
        cells.put(key, rates_cell(name, answer["flops"], found, dtype))
        print(f"a: {name}", flush=True)


def rates_cell(
    name: str, flops: int, found: list[tuple[float, float, float]], dtype: torch.dtype
) -> dict[str, Any]:
    """Medians of the rates, and of the shares of each round."""
    seconds, plain, same = (list(column) for column in zip(*found, strict=True))
    rates = [flops / one for one in seconds]
    return {
        "name": name,
        "precision": str(dtype).removeprefix("torch."),
        "flops": flops,
        "rate": statistics.median(rates),
        "plain": statistics.median(plain),
        "same": statistics.median(same),
        "share": median_ratio(rates, plain),
        "share_same": median_ratio(rates, same),
    }


def compilations(a: argparse.Namespace) -> list[bool]:
    """Without compilation, and with it where there is a compiler."""
    there = compilation_pays(a.device, 10**9)
    if not there and not a.no_compile:
        skip("compiled training", "there is no compiler", "install g++, or Triton on a GPU")
    return [False, True] if there and not a.no_compile else [False]


def train_settings(a: argparse.Namespace, network: str, compiled: bool) -> dict[str, Any]:
    return {
        "network": network,
        "compiled": compiled,
        "batch": a.train_batch,
        "threads": a.threads,
        "device": str(a.device),
    }


def part_b(a: argparse.Namespace, cells: Cells, setting: str) -> None:
    """Restorations then and now, picture by picture."""
    if a.images is None:
        raise SystemExit("part b needs --images, a folder of pictures; or leave it out of --parts")
    paths = list_images(a.images)[: a.pictures]
    jobs = [
        (problem, index, path)
        for index, path in enumerate(paths)
        for problem in PROBLEMS
        if f"b/{setting}/{problem}/{path.stem}" not in cells
    ]
    if not jobs:
        return
    common = {"threads": a.threads, "device": str(a.device), "solver": None}
    with ExitStack() as stack:
        folder = stack.enter_context(checkout(a.commit))
        sides = {
            "then": Worker("restore", common | {"prior": "natural"}, folder),
            "now": Worker("restore", common | {"prior": a.prior}, ROOT),
            "quick": Worker("restore", common | {"prior": a.prior, "effort": "quick"}, ROOT),
        }
        for worker in sides.values():
            stack.enter_context(worker)
            worker.ask(problem=PROBLEMS[0], index=0, picture=None, draws=1)
        for number, (problem, index, path) in enumerate(jobs):
            cell = {}
            # which goes first changes from job to job
            for side in list(sides)[:: 1 if number % 2 else -1]:
                cell[side] = sides[side].ask(problem=problem, index=index, picture=str(path))
            then, now = cell["then"]["y"], cell["now"]["y"]
            if abs(then - now) > 1e-4 * abs(now):
                raise SystemExit(f"{problem}: the two commits measure {path.stem} differently")
            cells.put(f"b/{setting}/{problem}/{path.stem}", cell | {"problem": problem})
            print(f"b: {problem}, {index + 1}/{len(paths)} {path.stem}", flush=True)


def part_c(a: argparse.Namespace, cells: Cells, setting: str) -> None:
    """Training beside diffusers, one step of each in turns."""
    names = list(NETWORKS)
    if optional("diffusers", DIFFUSERS) is None:
        names = ["own"]
    for compiled in compilations(a):
        kind = "compiled" if compiled else "eager"
        if all(f"c/{setting}/{kind}/{name}" in cells for name in names):
            continue
        seconds: dict[str, list[float]] = {name: [] for name in names}
        facts: dict[str, dict[str, Any]] = {}
        with ExitStack() as stack:
            workers = {}
            for name in names:
                workers[name] = Worker("train", train_settings(a, name, compiled))
                stack.enter_context(workers[name])
                for _ in range(WARM_UP):  # one after another, for compilations take all cores
                    workers[name].ask()
            for _ in range(a.rounds):
                for name, worker in workers.items():
                    facts[name] = worker.ask()
                    seconds[name].append(facts[name].pop("seconds"))
        for name in names:
            cell = {
                "name": name,
                "kind": kind,
                "seconds": statistics.median(seconds[name]),
                "patches_per_second": a.train_batch / statistics.median(seconds[name]),
                "own_over_this": median_ratio(seconds[name], seconds["own"]),
                **facts[name],
            }
            cells.put(f"c/{setting}/{kind}/{name}", cell)
        print(f"c: {kind}", flush=True)


def part_d(a: argparse.Namespace, cells: Cells, setting: str) -> None:
    """Large pictures, each in a process of its own."""
    jobs = [("1 megapixel", "hqs"), ("1 megapixel", DEFAULT_SOLVER)]
    jobs += [("24 megapixels", one if one == "hqs" else DEFAULT_SOLVER) for one in a.large or ()]
    for size, solver in jobs:
        key = f"d/{setting}/{size}/{solver}"
        if key in cells:
            continue
        height, width = (round(side * a.shrink) for side in SIZES[size])
        settings = {"threads": a.threads, "device": str(a.device), "prior": a.prior}
        with Worker("large", settings | {"solver": solver}) as worker:
            answer = worker.ask(height=height, width=width)
        cells.put(key, answer | {"size": size, "pixels": f"{width}×{height}"})
        print(f"d: {size}, {solver}", flush=True)


def part_e(a: argparse.Namespace, cells: Cells, setting: str) -> None:
    """A restoration on two cores, and on the same two while one of them is taken."""
    key = f"e/{setting}"
    cores = sorted(os.sched_getaffinity(0))[:2] if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        skip("part e", "it needs two cores that can be chosen", "run it on Linux")
        return
    if key in cells:
        return
    settings = {"threads": 2, "device": "cpu", "prior": a.prior, "solver": "hqs"}
    quiet, taken = [], []
    with Worker("restore", settings, cores=cores) as worker:
        job = {"problem": "Gaussian blur 1.6", "index": 0, "picture": None}
        for _ in range(WARM_UP):
            worker.ask(**job)
        for _ in range(a.rounds):
            quiet.append(worker.ask(**job)["seconds"])
            with busy(cores[-1]):
                taken.append(worker.ask(**job)["seconds"])
    cells.put(
        key,
        {
            "quiet": statistics.median(quiet),
            "busy": statistics.median(taken),
            "ratio": median_ratio(taken, quiet),
        },
    )
    print("e", flush=True)


def lines_a(cells: Cells, setting: str) -> list[str]:
    rows = [
        [
            cell["name"],
            cell["precision"],
            f"{cell['rate'] / 1e9:.0f}",
            f"{cell['plain'] / 1e9:.0f}",
            f"{cell['share']:.0%}",
            f"{cell['same'] / 1e9:.0f}",
            f"{cell['share_same']:.0%}",
        ]
        for cell in cells.under(f"a/{setting}/")
    ]
    text = (
        "Operations as torch counts them: convolutions and matrix products, with their backward "
        "passes. The convolutions to compare with are 3×3, channels last, of the channels, sizes "
        "and batch of the network's own, one at a time, in the same precision; their rates are "
        "weighted by the operations of each shape. Forward: without gradients. Same passes: with "
        "the gradient of the input for products, and of the weights as well for training, each "
        "pass once. Shares are medians over rounds that measure all in turns."
    )
    head = ("what", "precision", "GFLOP/s", "convolutions, forward", "share")
    return [text, "", *table((*head, "convolutions, same passes", "share"), rows)]


def lines_b(cells: Cells, setting: str, commit: str) -> list[str]:
    found = cells.under(f"b/{setting}/")
    rows = []
    for problem in (*PROBLEMS, None):
        some = [cell for cell in found if problem in (None, cell["problem"])]
        if not some:
            continue
        sides = {side: [cell[side] for cell in some] for side in COMPARED}
        seconds = {side: [one["seconds"] for one in those] for side, those in sides.items()}
        row = [problem or "**all**", *(f"{statistics.median(one):.2f}" for one in seconds.values())]
        ratios = (median_ratio(seconds["then"], seconds[side]) for side in COMPARED[1:])
        row += [f"**{ratio:.2f}**" for ratio in ratios]
        for name, form in (("psnr", ".2f"), ("coverage", ".1%")):
            for of_side in sides.values():
                values = [one[name] for one in of_side if one[name] is not None]
                row.append(f"{statistics.fmean(values):{form}}" if values else "")
        rows.append(row)
    last = found[-1]
    then, now, quick = (f"{last[one]['solver']}, {last[one]['draws']} draws" for one in COMPARED)
    count = max(sum(cell["problem"] == problem for cell in found) for problem in PROBLEMS)
    text = (
        f"The first {count} picture{'s' if count > 1 else ''} of the folder, centre crops of "
        f"{SIDE}×{SIDE}, noise σ = {SIGMA} on [−1, 1], the same measurements for all. Then: commit "
        f"{commit} as `scoresde restore` is by default, with its `natural` prior ({then}); now: "
        f"the same of this commit ({now}); quick: with `--effort quick` ({quick}). Seconds are "
        "medians, the ratios are medians of the ratios of a picture, PSNR is that of the mean in "
        "dB, coverage that of the raw 90 % Gaussian intervals of the draws."
    )
    head = ["problem", *(f"s {side}" for side in COMPARED)]
    head += [f"then / {side}" for side in COMPARED[1:]]
    head += [f"{name} {side}" for name in ("PSNR", "coverage") for side in COMPARED]
    return [text, "", *table(head, rows)]


def lines_c(cells: Cells, setting: str, batch: int) -> list[str]:
    rows = [
        [
            f"{NETWORKS[cell['name']]}, {cell['kind']}",
            f"{cell['parameters'] / 1e6:.2f} M",
            f"{cell['flops'] / 1e9 / batch:.1f}",
            f"{cell['patches_per_second']:.1f}",
            f"{cell['own_over_this']:.2f}",
            f"{cell['flops'] / cell['seconds'] / 1e9:.0f}",
        ]
        for cell in cells.under(f"c/{setting}/")
    ]
    text = (
        f"Steps of training with {batch} patches of 64×64: the same loop, loss (denoising score "
        "matching), optimizer, averages and bfloat16 autocast for all. UNet2DModel of diffusers: "
        "plain DownBlock2D and UpBlock2D, two layers each, no attention, since ours has none, and "
        "widths in the ratios of ours with as many parameters within 10 %. It works at full "
        "resolution, which costs four times the arithmetic; on folded pixels it has our 2×2 stem. "
        "The ratio is the median over steps taken in turns."
    )
    head = ("network", "parameters", "GFLOP / patch", "patches / s", "ours / this", "GFLOP/s")
    return [text, "", *table(head, rows)]


def lines_d(cells: Cells, setting: str) -> list[str]:
    rows = [
        [
            f"{cell['size']} ({cell['pixels']})",
            f"{cell['solver']}, {cell['draws']} draw{'s' if cell['draws'] > 1 else ''}",
            f"{cell['seconds']:.0f}",
            f"{cell['peak_mb']:.0f}",
            f"{cell['before_mb']:.0f}",
            f"{cell['psnr']:.2f}",
        ]
        for cell in cells.under(f"d/{setting}/")
    ]
    text = (
        f"A photograph of scikit-image, mirrored to the size, Gaussian blur 1.6, noise σ = {SIGMA}."
        " Each in a process of its own, which loads packages, prior and picture first; memory is "
        "resident."
    )
    head = ("picture", "solver", "s", "peak MB", "MB before it starts", "PSNR")
    return [text, "", *table(head, rows)]


def lines_e(cells: Cells, setting: str) -> list[str]:
    cell = cells.values[f"e/{setting}"]
    row = [f"{cell['quiet']:.2f}", f"{cell['busy']:.2f}", f"**{cell['ratio']:.2f}**"]
    text = (
        f"`hqs` on a {SIDE}×{SIDE} crop with two threads on two cores, and while another process "
        "keeps one of the two busy, in turns. A fair half of that core would give 1.33."
    )
    return [text, "", *table(("s quiet", "s busy", "busy / quiet"), [row])]


def page(cells: Cells, settings: dict[str, str], a: argparse.Namespace) -> list[str]:
    titles = {
        "a": "Share of the rate of plain convolutions",
        "b": f"Restoring, then ({a.commit}) and now",
        "c": "Training beside diffusers",
        "d": "Large pictures",
        "e": "One of two cores taken",
    }
    makers: dict[str, Callable[[], list[str]]] = {
        "a": lambda: lines_a(cells, settings["a"]),
        "b": lambda: lines_b(cells, settings["b"], a.commit),
        "c": lambda: lines_c(cells, settings["c"], a.train_batch),
        "d": lambda: lines_d(cells, settings["d"]),
        "e": lambda: lines_e(cells, settings["e"]),
    }
    amx = ", AMX" if torch.cpu._is_amx_tile_supported() else ""
    lines = [
        f"Medians on {a.threads} thread{'s' if a.threads > 1 else ''} of {a.device.type} "
        f"({torch.backends.cpu.get_cpu_capability()}{amx}), torch {torch.__version__}, prior "
        f"{Path(a.prior).stem} ({weights_id(a.prior)})."
    ]
    for part, title in titles.items():
        if not cells.under(f"{part}/{settings[part]}"):
            continue
        made = cells.get(f"made/{part}/{settings[part]}") or {}
        lines += ["", f"## {title}", "", f"`{made.get('command', '')}`", "", *makers[part]()]
        if made.get("load", 0) > 0.5:
            lines += ["", f"Other work ran on the machine: a load of {made['load']:.1f} before."]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--images", type=Path, default=None, help="folder of pictures, for part b")
    parser.add_argument("--pictures", type=int, default=20, help="of part b")
    parser.add_argument("--prior", default="natural", help="name or file, for what runs now")
    parser.add_argument("--commit", default=THEN, help="what part b compares with")
    parser.add_argument("--rounds", type=int, default=9, help="measurements of each side")
    parser.add_argument("--batch", type=int, default=8, help="images of part a's denoiser")
    parser.add_argument("--train-batch", type=int, default=16, help="patches of a training step")
    parser.add_argument(
        "--large",
        nargs="*",
        choices=("hqs", "draws"),
        help="24 megapixels too: hqs if nothing follows, draws for the default solver (hours)",
    )
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--fresh", action="store_true", help="measure the chosen parts again")
    parser.add_argument(
        "--shrink", type=float, default=1.0, help="factor on the sides of part d, for a trial"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    a = parser.parse_args()
    a.large = ["hqs"] if a.large == [] else a.large
    a.device = choose_device(a.device)
    a.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(a.threads)
    if Path(a.prior).is_file():
        a.prior = str(Path(a.prior).resolve())
    cells = Cells(a.out / "speed.json")
    where = f"{a.device.type}-{a.threads}"
    prior = f"{where}/{weights_id(a.prior)}"
    settings = {
        "a": f"{prior}/{a.batch}-{a.train_batch}",
        "b": f"{prior}/{a.commit}/{DEFAULT_SOLVER}",
        "c": f"{where}/{a.train_batch}",
        "d": prior + ("" if a.shrink == 1 else f"/{a.shrink:g}"),
        "e": weights_id(a.prior),
    }
    runs = {"a": part_a, "b": part_b, "c": part_c, "d": part_d, "e": part_e}
    for part in a.parts:
        made = f"made/{part}/{settings[part]}"
        if a.fresh:
            cells.drop(f"{part}/{settings[part]}")
            cells.drop(made)
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
        known = len(cells.values)
        try:
            runs[part](a, cells, settings[part])
        finally:  # what an interrupted run has finished is shown, too
            if len(cells.values) > known:
                command = short_command("speed.py", sys.argv[1:])
                load = max(load, (cells.get(made) or {}).get("load", 0.0))
                cells.put(made, {"command": command, "load": load})
            write_page(a.out / "speed.md", page(cells, settings, a))


if __name__ == "__main__":
    main()
