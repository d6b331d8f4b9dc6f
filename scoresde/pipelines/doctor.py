"""What an installation has, and whether it works: `scoresde doctor`."""

import importlib.metadata
import os
import platform
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from packaging.requirements import Requirement
from safetensors import SafetensorError

from scoresde.errors import InputError
from scoresde.files import WEIGHTS, read_tensors
from scoresde.memory import available_bytes
from scoresde.pipelines.devices import choose_device
from scoresde.pipelines.machine_speed import convolution_speed
from scoresde.priors.hardware import fast_bf16

__all__ = ["FORMAT", "doctor"]

FORMAT = "scoresde.doctor-report/1"
"""Format of the report."""

_SHOWN = ("scoresde", "torch", "numpy", "scipy", "kornia", "scikit-image", "pillow", "safetensors")
_LITTLE_MEMORY = 2e9  # bytes; a picture of 512x512 with eight draws needs about as much


def doctor(
    device: str = "auto",
    *,
    seconds: float = 0.2,
    weights: Path = WEIGHTS,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Look at versions, devices, memory, speed, extras, weights and folders.

    Args:
        device: "auto" for the first GPU or else the CPU, or a device of torch.
        seconds: Time of each measurement of speed.
        weights: Folder of the embedded weights.
        progress: Called with the finished fraction of the work.

    Returns:
        The report in plain values. Its `problems` are sentences, each with what to do; there are
        none if all is well.

    Raises:
        InputError: If the device cannot be used.

    Example:
        >>> report = doctor("cpu", seconds=0.01)
        >>> report["format"], report["device"]
        ('scoresde.doctor-report/1', 'cpu')
    """
    chosen = choose_device(device)
    say = progress or (lambda _: None)
    report: dict[str, Any] = {
        "format": FORMAT,
        "versions": _versions(),
        "device": str(chosen),
        "devices": _devices(),
        "threads": _threads(),
        "memory": _memory(chosen),
        "precision": _precision(chosen),
    }
    say(0.1)
    report["speed"] = _speed(chosen, seconds)
    say(0.5)
    report["extras"] = _extras()
    report["weights"] = [_weights(path, weights) for path in sorted(weights.rglob("*.safetensors"))]
    say(0.9)
    report["folders"] = [_folder(what, path) for what, path in _places().items()]
    report["problems"] = _problems(report)
    say(1.0)
    return report


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _SHOWN:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return {**found, "system": f"{platform.system()} {platform.machine()}"}


def _processor() -> str:
    """The name of the processor, where the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _devices() -> list[dict[str, Any]]:
    flags = {
        "AVX2": "_is_avx2_supported",
        "AVX-512": "_is_avx512_supported",
        "AVX512-BF16": "_is_avx512_bf16_supported",
        "AMX": "_is_amx_tile_supported",
    }
    has = [name for name, flag in flags.items() if getattr(torch.cpu, flag, bool)()]
    found: list[dict[str, Any]] = [{"device": "cpu", "name": _processor(), "has": has}]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        entry = {"device": f"cuda:{index}", "name": properties.name}
        found.append({**entry, "bytes": properties.total_memory})
    return found


def _threads() -> dict[str, Any]:
    able = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "threads": torch.get_num_threads(),
        "processors": able,
        "load": load,
        "wait_policy": os.environ.get("OMP_WAIT_POLICY"),
    }


def _memory(device: torch.device) -> dict[str, int]:
    return {"cpu": available_bytes(torch.device("cpu")), "device": available_bytes(device)}


def _precision(device: torch.device) -> dict[str, str]:
    if fast_bf16(device):
        why = "the hardware computes convolutions in bfloat16 fast"
        return {"network": "bf16", "why": why}
    what = "the GPU" if device.type == "cuda" else "the processor has no AMX and"
    return {"network": "fp32", "why": f"{what} computes bfloat16 no faster than float32"}


def _speed(device: torch.device, seconds: float) -> dict[str, Any]:
    """Convolutions in both types with all threads; on a CPU in float32 with one thread, too."""
    found: dict[str, Any] = {
        "float32": asdict(convolution_speed(device, torch.float32, seconds)),
        "bfloat16": asdict(convolution_speed(device, torch.bfloat16, seconds)),
    }
    threads = torch.get_num_threads()
    if device.type == "cpu" and threads > 1:
        try:
            torch.set_num_threads(1)
            found["one_thread"] = asdict(convolution_speed(device, torch.float32, seconds))
        finally:
            torch.set_num_threads(threads)
    return found


def _extras() -> dict[str, list[str]]:
    """What each extra lacks; [] if it is there."""
    try:
        lines = importlib.metadata.requires("scoresde") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for requirement in map(Requirement, lines):
        if requirement.marker is None or "extra" not in str(requirement.marker):
            continue
        for extra in importlib.metadata.metadata("scoresde").get_all("Provides-Extra") or []:
            if requirement.marker.evaluate({"extra": extra}):
                found.setdefault(extra, [])
                if not _satisfied(requirement):
                    found[extra].append(str(requirement).split(";")[0].strip())
    return dict(sorted(found.items()))


def _satisfied(requirement: Requirement) -> bool:
    try:
        version = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return requirement.specifier.contains(version, prereleases=True)


def _weights(path: Path, home: Path) -> dict[str, Any]:
    """Read a file of weights, and compare it with the checksum of the installer if there is one."""
    entry: dict[str, Any] = {"name": path.relative_to(home).with_suffix("").as_posix()}
    try:
        content = path.read_bytes()
        tensors, _ = read_tensors(path)
    except (InputError, OSError, SafetensorError) as error:
        return {**entry, "whole": False, "why": str(error).splitlines()[0]}
    entry |= {"bytes": len(content), "sha256": sha256(content).hexdigest()[:16]}
    broken = [
        name for name, x in tensors.items() if x.is_floating_point() and not x.isfinite().all()
    ]
    if broken:
        return {**entry, "whole": False, "why": f"{broken[0]} has values that are not finite"}
    stated = _recorded().get(str(path.resolve()))
    if stated is not None and stated != _digest(content):
        return {**entry, "whole": False, "why": "the file differs from the one that was installed"}
    return {**entry, "whole": True}


def _digest(content: bytes) -> str:
    """A checksum as installers write it."""
    return urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()


def _recorded() -> dict[str, str]:
    """Checksums of the installed files by path; {} for a source tree, which has none."""
    try:
        files = importlib.metadata.files("scoresde") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {
        str(Path(str(file.locate())).resolve()): file.hash.value
        for file in files
        if file.hash is not None and file.hash.mode == "sha256"
    }


def _places() -> dict[str, Path]:
    """Folders that a command may write to, beside its --out."""
    compiled = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    found = {
        "temporary files": Path(tempfile.gettempdir()),
        "downloads of torch": Path(torch.hub.get_dir()),
    }
    return found | ({"compiled networks": Path(compiled)} if compiled else {})


def _folder(what: str, path: Path) -> dict[str, Any]:
    """Try to write where it stands, or in the nearest folder above that is there."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            return {"for": what, "folder": str(path), "writable": True}
    except OSError as error:
        why = error.strerror or type(error).__name__
        return {"for": what, "folder": str(path), "writable": False, "why": why}


def _problems(report: dict[str, Any]) -> list[str]:
    found = [
        f"the weights {one['name']} are broken ({one['why']}): install again"
        for one in report["weights"]
        if not one["whole"]
    ]
    if not report["weights"]:
        found.append("the package has no weights: install again")
    found += [
        f"nothing can be written to {one['folder']} ({one['why']}), which is for {one['for']}"
        for one in report["folders"]
        if not one["writable"]
    ]
    if report["memory"]["device"] < _LITTLE_MEMORY:
        gigabytes = report["memory"]["device"] / 1e9
        found.append(
            f"only {gigabytes:.1f} GB of memory are free: restore with --tile 128 and --samples 2"
        )
    threads, speed = report["threads"], report["speed"]
    if (threads["processors"] or 1) < threads["threads"]:
        found.append(
            f"{threads['threads']} threads share {threads['processors']} processors: set "
            f"OMP_NUM_THREADS={threads['processors']}"
        )
    alone = speed.get("one_thread")
    if alone and speed["float32"]["gflops"] < alone["gflops"]:
        found.append(
            "several threads are slower than one, as on a busy machine: set OMP_NUM_THREADS=1 or "
            "wait until the others are done"
        )
    return found
