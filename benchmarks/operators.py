"""Each operator beside the same one of deepinv, on 256x256 images in float32, batch 1.

    python benchmarks/operators.py

Speed, memory, and the accuracy of the adjoint and of the prox. deepinv takes part if it can be
imported (``pip install --no-deps deepinv``); without it the table has our columns alone. Both sides
run in this process, in turns, on the same kernel, mask, angles, x, y and z; the largest difference
of their A x is in the table. Times are medians of warm calls without gradients. "First use" makes a
fresh operator and calls A, A^T and prox once. Peak memory is that of a forked process (see
``peak_memory``).

The prox solves (A^T A / s2 + I / r2) x = A^T y / s2 + z / r2, with s = 0.05 (times 256 for the line
integrals of the tomography, whose unit is the pixel) and r = 0.3; its residual is
|left - right| / |right| by the side's own A and adjoint. deepinv's ``prox_l2`` keeps its defaults,
and is called once more with our tolerance if it is less exact by default. The adjoint error is
|<A x, v> - <x, A^T v>| / (|A x| |v|). For nonlinear operators the vjp replaces the adjoint.
Writes operators.json and operators.md.
"""

import argparse
import ctypes
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.metadata
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from peers import optional
from tables import RESULTS, table, write_json, write_page
from torch import Tensor

from problems import (
    JPEG,
    MRI,
    Blur,
    Clipping,
    CompressedSensing,
    Decimation,
    Demosaicing,
    Denoising,
    Gamma,
    GaussianBlur,
    Grayscale,
    Inpainting,
    LinearOperator,
    MotionBlur,
    Operator,
    PhaseRetrieval,
    Quantisation,
    SuperResolution,
    Tomography,
    angles_between,
    birdcage_maps,
    cartesian_mask,
    random_mask,
    stack,
)
from problems.linalg.transforms import hadamard2

SIDE = 256
STD, PRIOR_STD = 0.05, 0.3
COSTS = ("apply", "adjoint", "prox", "first use", "peak MB")


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules that deepinv imports for data sets and metrics, and does not use in physics."""

    names = ("torchvision", "natsort", "h5py")

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        return (
            importlib.machinery.ModuleSpec(name, self, is_package=True)
            if name.split(".")[0] in self.names
            else None
        )

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: Any) -> None:
        def empty(name: str) -> type:
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

        module.__getattr__ = empty


def import_physics() -> ModuleType | None:
    """deepinv.physics, or None. Installed modules take precedence over the stand-ins."""
    finder = _StandIns()
    sys.meta_path.append(finder)
    try:
        return optional("deepinv.physics", "pip install --no-deps deepinv")
    finally:
        sys.meta_path.remove(finder)


def same(y: Any) -> Any:
    return y


@dataclass(frozen=True)
class Peer:
    """A physics of deepinv.

    ``ours`` converts its measurement to our layout, and ``theirs`` ours to its layout.
    """

    label: str
    make: Callable[[], Any]
    ours: Callable[[Any], Tensor] = same
    theirs: Callable[[Tensor], Any] = same


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[], Operator]
    peers: Sequence[Peer] = ()
    shape: tuple[int, int, int] = (3, SIDE, SIDE)
    std: float = STD


@dataclass
class Side:
    """One implementation with the measurement in its own layout."""

    make: Callable[[], "Calls"]
    x: Tensor
    y: Any
    v: Any
    seconds: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Calls:
    apply: Callable[[Tensor], Any]
    adjoint: Callable[[Any], Tensor]
    prox: Callable[[Tensor, Any], Tensor] | None


def our_calls(case: Case, x: Tensor) -> Calls:
    op = case.make()
    if not isinstance(op, LinearOperator):
        return Calls(op.apply, lambda v: op.vjp(x, v), None)
    return Calls(op.apply, op.adjoint, lambda z, y: op.prox(z, y, case.std**2, PRIOR_STD**2))


def their_calls(case: Case, peer: Peer) -> Calls:
    physics = peer.make()
    gamma = PRIOR_STD**2 / case.std**2  # its prox minimises gamma/2 |A x - y|^2 + 1/2 |x - z|^2
    return Calls(physics.A, physics.A_adjoint, lambda z, y: physics.prox_l2(z, y, gamma))


def cases(dp: ModuleType | None) -> list[Case]:
    image = (3, SIDE, SIDE)
    mask = random_mask(SIDE, SIDE, 0.5, torch.Generator().manual_seed(0))
    gauss, motion = GaussianBlur(2.0).kernel, MotionBlur(15, 30.0).kernel
    wide = GaussianBlur(4.0, truncate=3.5).kernel  # 29x29, deepinv's own size for a factor of 4
    lines = cartesian_mask(SIDE, SIDE, 4.0, generator=torch.Generator().manual_seed(0))
    maps, angles = birdcage_maps(4, SIDE, SIDE), angles_between(60)
    sensing, luma = CompressedSensing(0.25, (SIDE, SIDE), "hadamard"), (0.299, 0.587, 0.114)
    found = [
        Case("denoising", Denoising),
        Case("inpainting, random 50 %", lambda: Inpainting(mask)),
        Case("Gaussian blur 2, circular", lambda: GaussianBlur(2.0)),
        Case("Gaussian blur 2, reflect", lambda: GaussianBlur(2.0, "reflect")),
        Case("motion kernel 15×15, circular", lambda: Blur(motion)),
        Case("motion kernel 15×15, reflect", lambda: Blur(motion, "reflect")),
        Case("motion kernel 15×15, valid", lambda: Blur(motion, "valid")),
        Case("×4, Gaussian filter 29×29, circular", lambda: Decimation(wide, 4)),
        Case("×4, bicubic", lambda: SuperResolution(4)),
        Case("colourisation", lambda: Grayscale(luma)),
        Case("demosaicing", lambda: Demosaicing("BGGR")),
        Case(
            "compressed sensing, Hadamard 25 %",
            lambda: CompressedSensing(0.25, (SIDE, SIDE), "hadamard"),
        ),
        Case("compressed sensing, DCT 25 %", lambda: CompressedSensing(0.25, (SIDE, SIDE), "dct")),
        Case(
            "compressed sensing, random 25 %",
            lambda: CompressedSensing(0.25, (SIDE, SIDE), "random"),
        ),
        Case(
            "MRI ×4, complex image", lambda: MRI(lines, complex_image=True), shape=(2, SIDE, SIDE)
        ),
        Case(
            "MRI ×4, complex image, 4 coils",
            lambda: MRI(lines, maps, complex_image=True),
            shape=(2, SIDE, SIDE),
        ),
        Case(
            "tomography, 60 angles", lambda: Tomography(angles, (SIDE, SIDE), 1.0), std=STD * SIDE
        ),
        Case(
            "inpainting after motion, reflect", lambda: Inpainting(mask) @ Blur(motion, "reflect")
        ),
        Case(
            "Gaussian blur 2, reflect, after grey",
            lambda: GaussianBlur(2.0, "reflect") @ Grayscale(luma),
        ),
        Case(
            "inpainting beside motion, circular",
            lambda: stack(Inpainting(mask), Blur(motion), shape=image),
        ),
        Case("phase retrieval", PhaseRetrieval),
        Case("JPEG 50", lambda: JPEG(50)),
        Case("clipping", Clipping),
        Case("gamma 2.2", lambda: Gamma(2.2)),
        Case("quantisation", Quantisation),
    ]
    if dp is None:
        return found

    def kernel(k: Tensor) -> Tensor:
        return k.float()[None, None]

    def blurs(k: Tensor, padding: str) -> list[Peer]:
        return [
            Peer("Blur", lambda: dp.Blur(kernel(k), padding=padding)),
            Peer("Blur, use_fft", lambda: dp.Blur(kernel(k), padding=padding, use_fft=True)),
        ]

    def camera() -> Any:
        physics = dp.SinglePixelCamera(m=sensing.count, img_size=image)
        physics.mask = places  # our random places instead of its lowest ones
        return physics

    places = hadamard2(sensing.adjoint(torch.ones(1, 1, sensing.count))).round()
    where = places.flatten().nonzero()[:, 0]
    order = (
        hadamard2(sensing.adjoint(torch.arange(1.0, sensing.count + 1)[None, None]))
        .flatten()[where]
        .round()
        .long()
        - 1
    )
    where = where[order.argsort()]  # the flat place of each of our coefficients

    def onto_grid(y: Tensor) -> Tensor:
        return (
            y.new_zeros(*y.shape[:2], SIDE * SIDE)
            .index_copy(-1, where, y)
            .unflatten(-1, (SIDE, SIDE))
        )

    def coils_ours(y: Tensor) -> Tensor:
        return y.transpose(1, 2).flatten(1, 2)

    def coils_theirs(y: Tensor) -> Tensor:
        return y.unflatten(1, (4, 2)).transpose(1, 2)

    def radon(exact: bool) -> Callable[[], Any]:
        return lambda: dp.Tomography(
            torch.tensor(angles), SIDE, normalize=False, adjoint_via_backprop=exact
        )

    side_by_side = stack(Inpainting(mask), Blur(motion), shape=image)
    tensor_list: Any = importlib.import_module("deepinv.utils").TensorList
    peers: dict[str, list[Peer]] = {
        "denoising": [Peer("Denoising", lambda: dp.Denoising())],
        "inpainting, random 50 %": [
            Peer("Inpainting", lambda: dp.Inpainting(image, mask.float()[None]))
        ],
        "Gaussian blur 2, circular": [Peer("BlurFFT", lambda: dp.BlurFFT(image, kernel(gauss)))],
        "Gaussian blur 2, reflect": blurs(gauss, "reflect"),
        "motion kernel 15×15, circular": [
            Peer("BlurFFT", lambda: dp.BlurFFT(image, kernel(motion)))
        ],
        "motion kernel 15×15, reflect": blurs(motion, "reflect"),
        "motion kernel 15×15, valid": blurs(motion, "valid"),
        "×4, Gaussian filter 29×29, circular": [
            Peer("Downsampling", lambda: dp.Downsampling(image, kernel(wide), 4))
        ],
        "×4, bicubic": [Peer("DownsamplingMatlab", lambda: dp.DownsamplingMatlab(4))],
        "colourisation": [Peer("Decolorize", lambda: dp.Decolorize(srf=luma))],
        "demosaicing": [
            Peer(
                "Demosaicing",
                lambda: dp.Demosaicing(image),
                lambda y: y.sum(1, keepdim=True),
                Demosaicing("BGGR").adjoint,
            )
        ],
        "compressed sensing, Hadamard 25 %": [
            Peer("SinglePixelCamera", camera, lambda y: y.flatten(-2)[..., where], onto_grid)
        ],
        "MRI ×4, complex image": [Peer("MRI", lambda: dp.MRI(lines.float()))],
        "MRI ×4, complex image, 4 coils": [
            Peer(
                "MultiCoilMRI",
                lambda: dp.MultiCoilMRI(lines.float(), maps.to(torch.complex64)),
                coils_ours,
                coils_theirs,
            )
        ],
        "tomography, 60 angles": [
            Peer("Tomography", radon(True), lambda y: y.mT, lambda y: y.mT),
            Peer(
                "Tomography, adjoint_via_backprop=False",
                radon(False),
                lambda y: y.mT,
                lambda y: y.mT,
            ),
        ],
        "inpainting after motion, reflect": [
            Peer(
                "Inpainting * Blur",
                lambda: (
                    dp.Inpainting(image, mask.float()[None])
                    * dp.Blur(kernel(motion), padding="reflect")
                ),
            )
        ],
        "Gaussian blur 2, reflect, after grey": [
            Peer(
                "Blur * Decolorize",
                lambda: dp.Blur(kernel(gauss), padding="reflect") * dp.Decolorize(srf=luma),
            )
        ],
        "inpainting beside motion, circular": [
            Peer(
                "stack(Inpainting, BlurFFT)",
                lambda: dp.stack(
                    dp.Inpainting(image, mask.float()[None]), dp.BlurFFT(image, kernel(motion))
                ),
                lambda y: torch.cat([part.flatten(1) for part in y], 1),
                lambda y: tensor_list(side_by_side.parts(y)),  # type: ignore[attr-defined]
            )
        ],
    }
    return [Case(c.name, c.make, peers.get(c.name, ()), c.shape, c.std) for c in found]


def data(case: Case) -> tuple[list[Side], Tensor]:
    """Our side and then each peer, with x, y and a direction v; and z."""
    g = torch.Generator().manual_seed(0)
    x = (
        torch.nn.functional.interpolate(
            torch.rand(1, case.shape[0], 16, 16, generator=g), (SIDE, SIDE), mode="bicubic"
        )
        * 2
        - 1
    )
    z = x + PRIOR_STD * torch.randn(x.shape, generator=g)
    op = case.make()
    if isinstance(op, LinearOperator):
        y = op.apply(x)
        v = torch.randn(y.shape, generator=g)
        y = op.mask_unobserved(y + case.std * torch.randn(y.shape, generator=g))
    else:
        v = y = op.apply(x)
    sides = [Side(lambda: our_calls(case, x), x, y, v)]
    sides += [
        Side(lambda peer=peer: their_calls(case, peer), x, peer.theirs(y), peer.theirs(v))
        for peer in case.peers
    ]  # type: ignore[misc]
    return sides, z


def once(side: Side, z: Tensor) -> Calls:
    calls = side.make()
    calls.apply(side.x)
    calls.adjoint(side.v)
    if calls.prox is not None:
        calls.prox(z, side.y)
    return calls


def peak_memory(case: Case, index: int, threads: int) -> float:
    """MB by which the resident memory of a forked process grows at its peak during a first use.

    This is the peak of the operating system (VmHWM), reset just before. Unlike PyTorch's count it
    includes the work space of FFTs and convolutions. Every block above 64 kB is mapped separately,
    and free memory of the heap is returned before; a first round warms up the libraries.
    """
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.environ["MKL_DISABLE_FAST_MM"] = "1"
            torch.set_num_threads(threads)
            libc = ctypes.CDLL(None)
            libc.mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD
            sides, z = data(case)
            once(sides[index], z)
            gc.collect()
            libc.malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            before = _status("VmRSS")
            once(sides[index], z)
            os.write(writer, str(_status("VmHWM") - before).encode())
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    answer = os.read(reader, 64)
    os.close(reader)
    return int(answer) / 1e3 if answer else float("nan")


def _status(key: str) -> int:
    """An entry of /proc/self/status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key + ":")).split()[1])


Clock = Callable[[], float]


def in_turns(works: list[Callable[[], object]], seconds: float, clock: Clock) -> list[list[float]]:
    """Times of each function, run in turns 3 to 100 times. They have run before."""
    times: list[list[float]] = [[] for _ in works]
    end = time.perf_counter() + seconds
    while len(times[0]) < 3 or (len(times[0]) < 100 and time.perf_counter() < end):
        for work, kept in zip(works, times, strict=True):
            start = clock()
            work()
            kept.append(clock() - start)
    return times


def norm(a: Tensor) -> float:
    return float(a.double().norm())


def inner(a: Any, b: Any) -> float:
    """Inner product, also of deepinv's lists of tensors."""
    if not isinstance(a, Tensor):
        return sum(inner(p, q) for p, q in zip(a, b, strict=True))
    return float((a.double() * b.double()).sum())


def prox_residual(case: Case, calls: Calls, z: Tensor, y: Any, found: Tensor) -> float:
    s2, r2 = case.std**2, PRIOR_STD**2
    right = calls.adjoint(y) / s2 + z / r2
    return norm(calls.adjoint(calls.apply(found)) / s2 + found / r2 - right) / norm(right)


def exactness(case: Case, side: Side, calls: Calls, z: Tensor) -> dict[str, float]:
    if calls.prox is None:
        return {}
    image, back = calls.apply(z), calls.adjoint(side.v)
    error = (
        abs(inner(image, side.v) - inner(z, back))
        / (inner(image, image) * inner(side.v, side.v)) ** 0.5
    )
    return {
        "adjoint error": error,
        "prox residual": prox_residual(case, calls, z, side.y, calls.prox(z, side.y)),
    }


def tightened(
    case: Case, peer: Peer, side: Side, calls: Calls, z: Tensor, clock: Clock
) -> dict[str, float]:
    """One call of deepinv's prox with our tolerance.

    On a fresh physics, because the settings would stay.
    """
    physics = peer.make()
    start = clock()
    found = physics.prox_l2(z, side.y, PRIOR_STD**2 / case.std**2, max_iter=60, tol=1e-6)
    seconds = clock() - start
    return {
        "tight prox": 1e3 * seconds,
        "tight prox residual": prox_residual(case, calls, z, side.y, found),
    }


def measure(case: Case, memory: list[float], seconds: float, clock: Clock) -> dict[str, Any]:
    sides, z = data(case)
    calls = [once(side, z) for side in sides]
    names = ["ours", *(peer.label for peer in case.peers)]
    rows: list[dict[str, Any]] = [
        exactness(case, *pair, z) for pair in zip(sides, calls, strict=True)
    ]
    mine = calls[0].apply(sides[0].x)
    for row, peer, side, call in zip(rows[1:], case.peers, sides[1:], calls[1:], strict=True):
        row["difference of A x"] = float(
            (peer.ours(call.apply(side.x)) - mine).abs().max() / mine.abs().max()
        )
        if row["prox residual"] > 10 * rows[0]["prox residual"]:
            row |= tightened(case, peer, side, call, z, clock)
    works: dict[str, list[Callable[[], object]]] = {
        "apply": [lambda s=s, c=c: c.apply(s.x) for s, c in zip(sides, calls, strict=True)],
        "adjoint": [lambda s=s, c=c: c.adjoint(s.v) for s, c in zip(sides, calls, strict=True)],
        "first use": [lambda s=s: once(s, z) for s in sides],  # type: ignore[misc]
    }
    if all(c.prox is not None for c in calls):
        works["prox"] = [lambda s=s, c=c: c.prox(z, s.y) for s, c in zip(sides, calls, strict=True)]
    for what, work in works.items():
        for row, times in zip(rows, in_turns(work, seconds, clock), strict=True):
            row[what] = 1e3 * statistics.median(times)
            row[what + " quartiles"] = [1e3 * q for q in statistics.quantiles(times, n=4)[::2]]
    for row, peak in zip(rows, memory, strict=True):
        row["peak MB"] = peak
    return {"name": case.name, "shape": case.shape, "sides": dict(zip(names, rows, strict=True))}


def number(value: float, what: str) -> str:
    if what in COSTS:
        return f"{value:.3f}" if value < 1 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
    return f"{value:.0e}"


def cell(mine: dict[str, Any], theirs: dict[str, Any] | None, what: str) -> str:
    """ours / theirs, with the cheaper one in bold if by 10 % or more."""
    if what not in mine:
        return ""
    values = [mine[what]] + ([theirs[what]] if theirs is not None else [])
    texts = [number(value, what) for value in values]
    if len(values) == 2 and what in COSTS and max(values) > 1.1 * min(values):
        best = values.index(min(values))
        texts[best] = f"**{texts[best]}**"
    return " / ".join(texts)


def page(results: dict[str, Any]) -> list[str]:
    lines = [
        f"Images of {SIDE}×{SIDE} in float32, 3 channels (MRI: real and imaginary part), batch 1; "
        f"{results['facts']}. Ours / deepinv's, the cheaper in bold if by 10 % or more; times in "
        "ms, medians of warm calls in turns. First use: a fresh operator is made, and A, Aᵀ and "
        "prox are called once. Peak: growth of the resident memory of a forked process at its peak "
        "during a first use. |A − A'|: the largest difference of the two A x, relative to the "
        "largest entry. Adjoint error: |⟨Ax, v⟩ − ⟨x, Aᵀv⟩| / (|Ax| |v|). Prox residual: of "
        "(AᵀA/s² + I/r²) x = Aᵀy/s² + z/r², relative, s = 0.05, r = 0.3 (tomography: "
        "s = 0.05 · 256, its unit is the pixel); deepinv's prox_l2 with its defaults (CG to 1e-4), "
        "and, where it is then less exact, one call at our tolerance, with its residual. For "
        "nonlinear operators the vjp replaces the adjoint.",
        "",
        f"`{results['command']}`",
        "",
    ]
    table_rows = []
    for row in results["rows"]:
        mine, *others = row["sides"].values()
        for label, theirs in list(zip(list(row["sides"])[1:], others, strict=True)) or [
            ("–", None)
        ]:
            cells = [cell(mine, theirs, what) for what in COSTS]
            cells.append(number(theirs["difference of A x"], "") if theirs else "")
            cells += [cell(mine, theirs, what) for what in ("adjoint error", "prox residual")]
            tight = (
                f"{number(theirs['tight prox'], 'prox')} ({theirs['tight prox residual']:.0e})"
                if theirs and "tight prox" in theirs
                else ""
            )
            cells.append(tight)
            table_rows.append([row["name"], label, *cells])
    head = ("operator", "deepinv's", *COSTS, "\\|A − A'\\|", "adjoint error", "prox residual")
    return [*lines, *table((*head, "deepinv's prox, tol 1e-6"), table_rows)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="time for each method of an operator"
    )
    parser.add_argument("--only", nargs="+", help="operators whose name contains one of these")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument(
        "--busy",
        action="store_true",
        help="count processor time on one thread, because the machine does other work",
    )
    a = parser.parse_args()
    clock, threads = (time.process_time, 1) if a.busy else (time.perf_counter, a.threads)
    warnings.simplefilter("ignore", UserWarning)
    torch.set_num_threads(1)  # a process with threads cannot be forked
    dp = import_physics()
    with torch.no_grad():
        chosen = [
            case for case in cases(dp) if not a.only or any(word in case.name for word in a.only)
        ]
        memory = {
            case.name: [peak_memory(case, i, threads) for i in range(1 + len(case.peers))]
            for case in chosen
        }
        torch.set_num_threads(threads)
        print("timing", flush=True)
        rows = []
        for case in chosen:
            rows.append(measure(case, memory[case.name], a.seconds, clock))
            print(case.name, flush=True)
    versions = [f"torch {torch.__version__}"] + (
        [f"deepinv {importlib.metadata.version('deepinv')}"] if dp else ["deepinv not installed"]
    )
    facts = (
        "processor time on 1 thread of a busy CPU" if a.busy else f"{threads} threads of a CPU"
    ) + f", {', '.join(versions)}"
    results = {
        "facts": facts,
        "command": "python benchmarks/operators.py" + " --busy" * a.busy,
        "rows": rows,
    }
    a.out.mkdir(parents=True, exist_ok=True)
    write_json(results, a.out / "operators.json")
    write_page(a.out / "operators.md", page(results))


if __name__ == "__main__":
    main()
