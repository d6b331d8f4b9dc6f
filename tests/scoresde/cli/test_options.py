"""The options of the command line say and default to what the library has."""

import inspect
import os
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pytest
from typer.main import get_command

import scoresde.training
from scoresde.cli import calibrate, restore, train
from scoresde.cli.main import app
from scoresde.cli.options import PROBLEM, RESTORE
from scoresde.errors import InputError
from scoresde.networks import UNetConfig
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.training import RECIPES, NoiseLevels, TrainConfig, TrainingError
from scoresde.training.objective import WEIGHTINGS


def test_every_field_is_an_option() -> None:
    assert set(PROBLEM) == {field.name for field in fields(ProblemOptions)}
    assert set(RESTORE) - {"effort"} == {field.name for field in fields(RestoreOptions)}


@pytest.mark.parametrize("command", [restore.restore, calibrate.calibrate])
def test_defaults_are_those_of_the_dataclasses(command) -> None:  # type: ignore[no-untyped-def]
    parameters = inspect.signature(command).parameters
    decided_by_effort = ("samples", "select", "set", "solver", "starts")
    of_files = (
        ()
        if command is restore.restore
        else (("array", "maps", "noise_scan", "select", "sigma_units"))
    )
    for cls in (ProblemOptions, RestoreOptions):
        for field in fields(cls):
            if field.name in of_files:
                assert field.name not in parameters
            elif field.name not in (*decided_by_effort, "problem"):
                assert parameters[field.name].default == field.default, field.name


def help_of_training() -> dict[str, str]:
    """The help of each option of `scoresde train`, by the name of its parameter."""
    parameters = inspect.signature(train.train).parameters.items()
    return {name: str(p.annotation.__metadata__[0].help) for name, p in parameters}


def test_training_states_the_defaults_of_its_configuration() -> None:
    """They are not the options' own: an option that is not given leaves a recipe as it is."""
    defaults = {k: p.default for k, p in inspect.signature(train.train).parameters.items()}
    config, network, noise = TrainConfig(), UNetConfig(), NoiseLevels()
    stated = {
        name: str(getattr(config, name))
        for name in (
            *("steps", "batch", "accumulate", "learning_rate", "warmup", "cooldown", "ema"),
            *("precision", "sigma_data", "seed", "weighting"),
        )
    } | {
        "crop": ",".join(map(str, config.crops)),
        "widths": ",".join(map(str, network.widths)),
        "blocks": str(network.blocks),
        "channels": str(network.channels),
        "noise": f"{noise.mean:g},{noise.std:g}",
        "noise_range": f"{noise.sigma_min:g},{noise.sigma_max:g}",
        "preactivation": "with" if network.preactivation else "without",
    }
    texts = help_of_training()
    for name, value in stated.items():
        assert defaults[name] is None and texts[name].endswith(f"[{value}]"), name
    for choice in (*RECIPES, *WEIGHTINGS):
        assert choice in texts["recipe"] + texts["weighting"]


def configured(*arguments: str) -> TrainConfig:
    """The configuration that a command line of `scoresde train` leads to."""
    found: list[TrainConfig] = []

    def caught(images: object, out: object, config: TrainConfig, **_: object) -> None:
        found.append(config)
        raise TrainingError("enough")

    command: Any = get_command(app).commands["train"]  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoresde.training, "train", caught)
        patch.setattr(train, "_open_data", lambda *_, **__: [])
        try:
            command.main(["data", "--out", "out", *arguments], standalone_mode=False)
        except InputError:
            if not found:
                raise
    return found[0]


def test_without_options_a_run_has_the_default_configuration() -> None:
    assert configured() == TrainConfig()


@pytest.mark.parametrize("name", list(RECIPES))
def test_a_recipe_is_used_as_it_is(name: str) -> None:
    assert configured("--recipe", name) == RECIPES[name]


def test_options_beside_a_recipe_change_it() -> None:
    recipe = RECIPES["natural"]
    assert configured(
        *("--recipe", "natural", "--steps", "9", "--crop", "32", "--accumulate", "2"),
        *("--weighting", "min-snr", "--cooldown", "0.5", "--warmup", "3", "--plain-blocks"),
        *("--blocks", "1,2,1", "--attention", "1,2", "--noise", "-1,2", "--seed", "4"),
    ) == replace(
        recipe,
        steps=9,
        crops=(32,),
        accumulate=2,
        weighting="min-snr",
        cooldown=0.5,
        warmup=3,
        noise=replace(recipe.noise, mean=-1.0, std=2.0),
        network=replace(recipe.network, blocks=(1, 2, 1), attention=(1, 2), preactivation=False),
        seed=4,
    )


def test_sizes_of_the_network() -> None:
    network = configured("--widths", "8,16", "--blocks", "3", "--channels", "1").network
    assert network == UNetConfig(channels=1, widths=(8, 16), blocks=3, attention=(1,))
    network = configured("--attention", "none", "--plain-blocks", "--fourier", "7,8").network
    assert network == UNetConfig(attention=(), preactivation=False, extra=12)
    with pytest.raises(InputError, match="unknown recipe 'magic'; known: natural, natural-gpu"):
        configured("--recipe", "magic")
    with pytest.raises(InputError, match="do not fit the 3 levels"):
        configured("--blocks", "1,2")


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


@pytest.mark.parametrize("given", [None, "ACTIVE"])
def test_threads_wait_without_spinning_unless_the_environment_says_so(given: str | None) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    code = "import os, scoresde; print(os.environ['OMP_WAIT_POLICY'])"
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == (given or "PASSIVE")


def test_importing_the_package_imports_nothing_slow() -> None:
    code = "import sys, scoresde; print('torch' in sys.modules, 'load_prior' in dir(scoresde))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
