"""Turn the models that `scoresde compare --budget` trained into the embedded families.

    python benchmarks/maintenance/embed_families.py runs/compare mnist

The weights are stored in half precision, with a line of description in the header.
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
    parser.add_argument("data", help="name of the training data for the summary")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    a = parser.parse_args()
    for name in a.families:
        model = load_model(a.work / name / "model.safetensors")
        model.card["summary"] = f"{FAMILIES[name].title} of the comparison, trained on {a.data}"
        path = Path(scoresde.__file__).parent / "weights" / "families" / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        model.save(path, torch.float16)
        parameters, size = model.parameter_count / 1e6, path.stat().st_size / 1e6
        print(f"{name}: {parameters:.2f} M parameters, {size:.1f} MB, step {model.card['step']}")


if __name__ == "__main__":
    main()
