"""`scoresde doctor`."""

from typing import Any

import typer

from scoresde.cli.app import command
from scoresde.cli.console import echo, print_json, progress_bar
from scoresde.cli.options import Device, Json

__all__ = ["doctor"]


@command(
    "scoresde doctor",
    "scoresde doctor --device cpu --json",
)
def doctor(device: Device = "auto", as_json: Json = False) -> None:
    """Check the installation: versions, devices, memory, speed, extras, weights, folders.

    The exit status is 1 if something is wrong.
    """
    from scoresde.pipelines.doctor import doctor as examine

    with progress_bar("measuring") as progress:
        report = examine(device, progress=progress)
    if as_json:
        print_json(report)
    else:
        for title, text in _lines(report):
            echo(f"{title:12s} {text}")
    raise typer.Exit(1 if report["problems"] else 0)


def _lines(report: dict[str, Any]) -> list[tuple[str, str]]:
    threads, speed = report["threads"], report["speed"]
    lines = [("versions", ", ".join(f"{k} {v}" for k, v in report["versions"].items()))]
    for one in report["devices"]:
        memory = f", {one['bytes'] / 1e9:.0f} GB" if "bytes" in one else ""
        has = f", {', '.join(one['has'])}" if one.get("has") else ""
        lines.append(("device", f"{one['device']} {one['name']}{memory}{has}"))
    lines.append(("chosen", report["device"]))
    load = "" if threads["load"] is None else f", load {threads['load']:.1f}"
    lines.append(
        ("threads", f"{threads['threads']} on {threads['processors']} processors{load}"),
    )
    memory = report["memory"]
    free = f"{memory['cpu'] / 1e9:.1f} GB free"
    if report["device"] != "cpu":
        free += f", {memory['device'] / 1e9:.1f} GB on {report['device']}"
    lines.append(("memory", free))
    lines.append(("precision", f"{report['precision']['network']}: {report['precision']['why']}"))
    names = {"float32": "float32", "bfloat16": "bfloat16", "one_thread": "float32 on one thread"}
    rates = [f"{speed[key]['gflops']:.0f} in {name}" for key, name in names.items() if key in speed]
    lines.append(("speed", f"{', '.join(rates)}; GFLOP/s of a 3x3 convolution"))
    for name, lacking in report["extras"].items():
        lines.append(("extra", f"{name}: {'lacks ' + ', '.join(lacking) if lacking else 'there'}"))
    whole = [one for one in report["weights"] if one["whole"]]
    lines.append(("weights", f"{len(whole)} of {len(report['weights'])} files are whole"))
    for one in report["folders"]:
        state = "writable" if one["writable"] else f"not writable ({one['why']})"
        lines.append(("folder", f"{one['folder']}: {state}, for {one['for']}"))
    lines += [("problem", text) for text in report["problems"]]
    return lines if report["problems"] else [*lines, ("result", "nothing is wrong")]
