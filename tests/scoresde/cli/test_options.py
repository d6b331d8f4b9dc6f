"""The options of the command line say and default to what the library has."""

import inspect
import subprocess
import sys
from dataclasses import fields

import pytest

from scoresde.cli import calibrate, restore, train
from scoresde.cli.options import PROBLEM, RESTORE
from scoresde.networks import UNetConfig
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.training import NoiseLevels, TrainConfig


def test_every_field_is_an_option() -> None:
    assert set(PROBLEM) == {field.name for field in fields(ProblemOptions)}
    assert set(RESTORE) - {"effort"} == {field.name for field in fields(RestoreOptions)}


@pytest.mark.parametrize("command", [restore.restore, calibrate.calibrate])
def test_defaults_are_those_of_the_dataclasses(command) -> None:  # type: ignore[no-untyped-def]
    parameters = inspect.signature(command).parameters
    decided_by_effort = ("samples", "set", "solver")
    for cls in (ProblemOptions, RestoreOptions):
        for field in fields(cls):
            if field.name not in (*decided_by_effort, "problem"):
                assert parameters[field.name].default == field.default, field.name


def test_defaults_of_training_are_those_of_its_configuration() -> None:
    defaults = {k: p.default for k, p in inspect.signature(train.train).parameters.items()}
    config, network, noise = TrainConfig(), UNetConfig(), NoiseLevels()
    for name in ("steps", "batch", "learning_rate", "ema", "precision", "sigma_data", "seed"):
        assert defaults[name] == getattr(config, name), name
    assert defaults["widths"] == ",".join(map(str, network.widths))
    assert (defaults["blocks"], defaults["channels"]) == (network.blocks, network.channels)
    assert defaults["noise"] == f"{noise.mean:g},{noise.std:g}"
    assert defaults["noise_range"] == f"{noise.sigma_min:g},{noise.sigma_max:g}"


@pytest.mark.parametrize("arguments", [["--help"], ["restore", "--help"], ["train", "--help"]])
def test_help_imports_neither_torch_nor_scipy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['scoresde', *{arguments!r}]\n"
        "from scoresde.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'scipy', 'numpy', 'matplotlib'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_importing_the_package_imports_nothing_slow() -> None:
    code = "import sys, scoresde; print('torch' in sys.modules, 'load_prior' in dir(scoresde))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
