"""Split a file into parts that are small enough to move, and join them again.

    python benchmarks/maintenance/shards.py split runs/natural/state.safetensors PARTS
    python benchmarks/maintenance/shards.py join PARTS runs/natural

The parts have at most 16,000,000 bytes. `manifest.json` has the name of the file, its size, and the
SHA-256 of the file and of each part. Joining checks all of them and leaves no half file.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

from scoresde.errors import InputError
from scoresde.files import check_writable, write_atomically, write_json

LARGEST = 16_000_000
FORMAT = "scoresde.shards/1"


def split(path: Path, folder: Path, largest: int = LARGEST) -> Path:
    """Write the parts of a file and their manifest into a folder; return the manifest's path."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if largest < 1:
        raise InputError(f"a part must have at least one byte, got {largest}")
    check_writable(folder)
    whole, parts = hashlib.sha256(), []
    with path.open("rb") as file:
        while part := file.read(largest):
            name = f"{path.name}.{len(parts):04d}"
            write_atomically(folder / name, lambda new, part=part: new.write_bytes(part))
            parts.append(
                {"name": name, "bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
            )
            whole.update(part)
    manifest = {
        "format": FORMAT,
        "name": path.name,
        "bytes": sum(part["bytes"] for part in parts),
        "sha256": whole.hexdigest(),
        "parts": parts,
    }
    # last, so that a folder with a manifest is whole
    write_json(manifest, folder / "manifest.json")
    return folder / "manifest.json"


def join(folder: Path, out: Path) -> Path:
    """Write the file whose parts are in a folder into another folder; return its path."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} has no manifest.json that can be read ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{folder}/manifest.json is not one of {FORMAT}")
    names = [manifest["name"], *(part["name"] for part in manifest["parts"])]
    if any(Path(name).name != name for name in names):
        raise InputError(f"{folder}/manifest.json names files in other folders")

    def write(new: Path) -> None:
        whole = hashlib.sha256()
        with new.open("wb") as file:
            for part in manifest["parts"]:
                source = folder / part["name"]
                content = source.read_bytes() if source.is_file() else b""
                if hashlib.sha256(content).hexdigest() != part["sha256"]:
                    raise InputError(f"{source} is missing or damaged; copy it again")
                whole.update(content)
                file.write(content)
        if whole.hexdigest() != manifest["sha256"]:
            raise InputError(f"the parts in {folder} are not those of one file")

    path = check_writable(out) / manifest["name"]
    write_atomically(path, write)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("split")
    one.add_argument("file", type=Path)
    one.add_argument("folder", type=Path)
    one.add_argument("--bytes", type=int, default=LARGEST, help="largest size of a part")
    other = commands.add_parser("join")
    other.add_argument("folder", type=Path)
    other.add_argument("out", type=Path)
    a = parser.parse_args()
    try:
        path = split(a.file, a.folder, a.bytes) if a.command == "split" else join(a.folder, a.out)
    except InputError as error:
        sys.exit(f"error: {error}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
