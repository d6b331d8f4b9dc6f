"""What the core needs, and what is only there with an extra."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

OF_EXTRAS = ("accelerate", "tensorboard", "zuko", "diffusers", "gradio", "onnx", "lpips")
OF_COMMANDS = ("matplotlib", "jinja2", "rich", "typer", "skimage", "torchmetrics")

BLOCK = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def without(blocked: tuple[str, ...], code: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process where these packages cannot be imported."""
    return subprocess.run(
        [sys.executable, "-c", BLOCK.format(blocked=set(blocked)) + code],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_extras_are_no_dependencies_of_the_core() -> None:
    assert not set(OF_EXTRAS) & set(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    assert set(extras["train"]) == {"accelerate", "tensorboard", "zuko"}
    assert "scoresde[train]" in extras["test"]


@pytest.mark.slow
def test_every_import_is_declared() -> None:
    """A package that only comes along with another one may go away with it."""
    names = {"PIL": "pillow", "skimage": "scikit-image", "markupsafe": "jinja2"}
    extras = PROJECT["optional-dependencies"].values()
    declared = " ".join([*PROJECT["dependencies"], *(one for extra in extras for one in extra)])
    known = set(re.findall(r"[\w-]+", declared)) | {"problems", "scoresde", "solvers"}
    found = set()
    for package in ("scoresde", "problems", "solvers"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
    others = {names.get(one, one) for one in found - set(sys.stdlib_module_names)}
    assert others <= known, others - known
    core = set(re.findall(r"[\w-]+", " ".join(PROJECT["dependencies"])))
    assert {"psutil", "packaging"} <= core  # of `scoresde.memory` and `scoresde doctor`


def test_versions_agree() -> None:
    import scoresde

    assert PROJECT["version"] == scoresde.__version__


@pytest.mark.slow
def test_problems_work_alone() -> None:
    """Operators, noises and reading of files without plots, pages, commands or training."""
    done = without(
        (*OF_EXTRAS, *OF_COMMANDS, "safetensors"),
        "import sys, torch, problems\n"
        "from problems import GaussianNoise, InverseProblem, SuperResolution, problem_from\n"
        "problem = InverseProblem(SuperResolution(2), GaussianNoise(0.1))\n"
        "y = problem.measure(torch.zeros(1, 3, 8, 8), torch.Generator().manual_seed(0))\n"
        "x = problem.operator.pinv(y)\n"
        "assert x.shape == (1, 3, 8, 8) and problem_from(problem.describe()).noise.std == 0.1\n"
        "print(sorted({'scoresde', 'solvers'} & set(sys.modules)))\n",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_solvers_and_priors_work_without_commands_and_extras() -> None:
    done = without(
        (*OF_EXTRAS, "matplotlib", "jinja2", "rich", "typer", "skimage"),
        "import torch, problems, scoresde, solvers\n"
        "prior = scoresde.load_prior('natural')\n"
        "problem = problems.InverseProblem(problems.Denoising(), problems.GaussianNoise(0.1))\n"
        "found = solvers.solve(prior, problem, torch.zeros(1, 3, 16, 16), 2, solver='ddrm')\n"
        "assert found.mean.shape == (1, 3, 16, 16)\n",
    )
    assert done.returncode == 0, done.stderr


COMMAND = "from scoresde.cli import main\nsys.argv = ['scoresde', *{arguments!r}]\nmain()\n"


@pytest.mark.slow
def test_a_restoration_and_the_list_need_no_extra(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (24, 24), (90, 120, 150)).save(tmp_path / "photo.png")
    restore = ["restore", str(tmp_path / "photo.png"), "--problem", "denoise"]
    restore += ["--solver", "ddrm", "--samples", "2", "--out", str(tmp_path / "out")]
    for arguments in (restore, ["list"], ["verify", "--solver", "ddrm", "--problem", "gaussian"]):
        done = without(OF_EXTRAS, COMMAND.format(arguments=arguments))
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
def test_what_needs_an_extra_says_how_to_install_it(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photographs").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "photographs" / "one.png")
    train = ["train", str(tmp_path / "photographs"), "--out", str(tmp_path / "run")]
    done = without(OF_EXTRAS, COMMAND.format(arguments=train))
    assert done.returncode == 2
    assert done.stderr == (
        "scoresde: error: training needs accelerate, tensorboard: pip install 'scoresde[train]'\n"
    )
    assert not (tmp_path / "run").exists()
    flow = "from scoresde.families.flow import SplineCoupling\nSplineCoupling(2, 8, 1, 8)\n"
    done = without(OF_EXTRAS, flow)
    assert done.stderr.endswith("a flow with splines needs zuko: pip install 'scoresde[train]'\n")
