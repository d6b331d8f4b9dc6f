"""Turn what `scoresde compare --budget` trained into the embedded families: half precision, a line of description in the header.

python benchmarks/maintenance/embed_families.py runs/compare mnist
"""

import argparse
from pathlib import Path

import torch

import scoresde
from scoresde.families import load_model
from scoresde.families.comparison.families import FAMILIES


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="the --work folder of the comparison")
    parser.add_argument("data", help="what the models were trained on, as the summary says it")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    a = parser.parse_args()
    for name in a.families:
        model = load_model(a.work / name / "model.safetensors")
        model.card["summary"] = f"{FAMILIES[name].title} of the comparison, trained on {a.data}"
        path = Path(scoresde.__file__).parent / "weights" / "families" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        model.save(path, torch.float16)
        print(
            f"{name}: {model.parameter_count / 1e6:.2f} M parameters, {path.stat().st_size / 1e6:.1f} MB, step {model.card['step']}"
        )


if __name__ == "__main__":
    main()
