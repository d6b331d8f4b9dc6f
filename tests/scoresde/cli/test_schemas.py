"""Every JSON output is what its schema says, in every field."""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import problems
from problems import problem_from
from problems.description import Described
from scoresde import EDMSDE, ScorePrior, save_prior
from scoresde.cli.main import app
from scoresde.files import json_safe
from scoresde.networks import Perceptron, PerceptronConfig, UNet, UNetConfig
from scoresde.pipelines.posterior_file import read_posterior
from tests.commands import run

ROOT = Path(__file__).parents[3]
SCHEMAS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((ROOT / "scoresde/schemas").glob("*.json"))
}
jsonschema = pytest.importorskip("jsonschema")


def strict(schema: Any) -> Any:
    """The schema without the permission to have further fields: none may be undocumented."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(found.get("properties"), dict) and "object" in found.get("type", ()):
        found.setdefault("additionalProperties", False)
    return found


def check(report: dict[str, Any], name: str) -> None:
    """The report has the format of this name, and neither more nor fewer fields."""
    schema = SCHEMAS[name]
    assert report["format"] == schema["properties"]["format"]["const"]
    for one in (schema, strict(schema)):
        errors = jsonschema.Draft202012Validator(one).iter_errors(report)
        assert not [f"{list(error.path)}: {error.message[:200]}" for error in errors]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small untrained prior, a photograph, and a folder of them."""
    place = tmp_path_factory.mktemp("schemas")
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(8, 16), blocks=1, attention=(1,), embedding=16))
    nn.init.normal_(network.head.weight, std=0.05)
    save_prior(ScorePrior(network, EDMSDE(), (3, 16, 16)), place / "prior.safetensors")
    rng = np.random.default_rng(0)
    (place / "photographs").mkdir()
    for i in range(10):
        pixels = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "photographs" / f"{i}.png")
    return place


def report_of(
    capsys: pytest.CaptureFixture[str], *arguments: object, status: tuple[int, ...] = (0,)
) -> dict[str, Any]:
    code, out, err = run(capsys, *arguments, "--json")
    assert code in status, err
    found: dict[str, Any] = json.loads(out)
    return found


def settings(folder: Path) -> tuple[object, ...]:
    prior = folder / "prior.safetensors"
    return ("--prior", prior, "--solver", "ddrm", "--steps", 3, "--device", "cpu")


def hole(folder: Path) -> tuple[object, ...]:
    return ("--problem", "inpaint", "--random", 0.3, *settings(folder), "--samples", 2)


@pytest.mark.slow
def test_restoring_and_calibrating(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    file, out = folder / "calibration.json", folder / "out"
    made = ("--count", 10, "--crop", 16, "--level", 0.5, "--level", 0.9, "--out", file)
    line = ("calibrate", folder / "photographs", *hole(folder), *made)
    check(report_of(capsys, *line), "calibrate-report")
    check(json.loads(file.read_text()), "calibration")
    image = folder / "photographs" / "0.png"
    line = ("restore", image, *hole(folder), "--simulate", "--calibration", file, "--out", out)
    report = report_of(capsys, *line)
    check(report, "restore-report")
    assert {"missing", "mean", "draw", "measurement", "interval"} <= set(report)
    assert report == json.loads((out / "report.json").read_text())
    check(json.loads((out / "problem.json").read_text()), "problem")
    check(read_posterior(out / "posterior.npz")[1], "posterior")


@pytest.mark.slow
def test_restoring_many(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    line = ("restore", folder / "photographs", *hole(folder), "--simulate", "--out", tmp_path)
    check(report_of(capsys, *line, "--dry-run"), "dry-run-report")
    check(report_of(capsys, *line), "folder-report")
    (folder / "photographs/broken.png").write_bytes(b"no picture")
    report = report_of(capsys, *line, status=(3,))
    (folder / "photographs/broken.png").unlink()
    check(report, "folder-report")
    assert report == json.loads((tmp_path / "summary.json").read_text())
    check(json.loads((tmp_path / "0/done.json").read_text()), "done")


@pytest.mark.slow
@pytest.mark.parametrize("problem", [("denoise",), ("inpaint", "--box", "20,20,9,9")])
def test_restoring_in_windows(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, problem: tuple[object, ...]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    line = ("restore", tmp_path / "a.tif", "--problem", *problem, *settings(folder), "--windows",
            64, "--overlap", 16, "--samples", 2, "--out", tmp_path / "out")  # fmt: skip
    report = report_of(capsys, *line)
    check(report, "windows-report")
    assert report["windows"]["count"] == 2
    assert report == json.loads((tmp_path / "out/report.json").read_text())
    code, text, _ = run(capsys, *line)
    assert code == 0 and "2 windows, 2 draws by ddrm each, in " in text and "seams  " in text


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem",
    [
        ("denoise", "--samples", 1),
        ("denoise", "--photons", 30),
        ("jpeg", "--set", "quality=30"),
        ("colourise", "--set", "weights=luma"),
        ("mri", "--set", "coils=2"),
        ("deblur", "--gaussian", 1.5, "--boundary", "zero"),
    ],
    ids=lambda one: one[0],
)
@pytest.mark.parametrize("solver", ["mmps"])
def test_restoring_other_problems(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    tmp_path: Path,
    problem: tuple[object, ...],
    solver: str,
) -> None:
    image = folder / "photographs" / "0.png"
    how = (*settings(folder), "--samples", 2, "--solver", solver, "--out", tmp_path, "--simulate")
    check(report_of(capsys, "restore", image, *how, "--problem", *problem), "restore-report")
    check(json.loads((tmp_path / "problem.json").read_text()), "problem")


@pytest.mark.slow
def test_training_averaging_and_sampling(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    small = ("--widths", "8,8", "--blocks", 1, "--crop", 16, "--batch", 2, "--precision", "no")
    line = ("train", folder / "photographs", "--out", tmp_path / "run", "--steps", 4, *small)
    line += ("--snapshot-every", 2, "--device", "cpu", "--no-compile")
    check(report_of(capsys, *line), "train-report")
    line = ("average", tmp_path / "run", "--out", tmp_path / "prior.safetensors")
    check(report_of(capsys, *line), "average-report")
    line = ("sample", "--prior", folder / "prior.safetensors", "--n", 2, "--steps", 2)
    check(report_of(capsys, *line, "--out", tmp_path / "draws.png"), "sample-report")


@pytest.mark.slow
def test_judging_priors_and_solvers(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    prior, image = folder / "prior.safetensors", folder / "photographs" / "0.png"
    line = ("likelihood", image, "--prior", prior, "--nodes", 8, "--probes", 1, "--device", "cpu")
    check(report_of(capsys, *line), "likelihood-report")
    line = ("check-prior", prior, "--device", "cpu")
    check(report_of(capsys, *line, status=(0, 1)), "check-prior-report")
    line = ("audit", "--problem", "denoise", *settings(folder), "--runs", 20, "--draws", 5)
    check(report_of(capsys, *line, status=(0, 1)), "audit-report")
    line = ("verify", "--solver", "ddrm", "--solver", "repaint", "--draws", 20, "--jobs", 1)
    check(report_of(capsys, *line, "--problem", "gaussian"), "verify-report")
    line = ("verify", "--learned", "--solver", "ddrm", "--solver", "repaint", "--draws", 20)
    line += ("--law", "laplace", "--problem", "identity", "--seeds", 1)
    check(report_of(capsys, *line), "verify-report")


def test_the_rows_of_a_full_verification_have_their_place() -> None:
    """Those of `verify --full`, which takes minutes: the fields of its two parts."""
    from solvers.verification import VERIFIED
    from solvers.verification.metrics import verdict_row, verify
    from solvers.verification.sbc import ranks

    row = {"problem": "gaussian", "solver": "ddrm"}
    row |= verdict_row(verify(VERIFIED["ddrm"], "gaussian", draws=20, seeds=1))
    sbc = ranks(VERIFIED["ddrm"], "gaussian").summary()
    rows = [row | {"sbc": sbc, "memory": 1024.0}, row | {"sbc": None}]
    report = {"format": "scoresde.verify-report/1", "rows": rows}
    check(json.loads(json.dumps(json_safe(report))), "verify-report")


@pytest.mark.slow
def test_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    check(report_of(capsys, "list"), "list-report")
    check(report_of(capsys, "doctor", "--device", "cpu", status=(0, 1)), "doctor-report")


def test_the_kept_comparison() -> None:
    check(
        json.loads((ROOT / "benchmarks/results/comparison/comparison.json").read_text()),
        "compare-report",
    )


@pytest.mark.slow
def test_exporting(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    network = Perceptron(PerceptronConfig(size=3, widths=(8, 8)))  # the graph that is made fastest
    save_prior(ScorePrior(network, EDMSDE(), (3,)), tmp_path / "prior.safetensors")
    line = ("export", tmp_path / "prior.safetensors", tmp_path / "out", "--to", "torch-export")
    check(report_of(capsys, *line), "export-report")


@pytest.mark.slow
def test_the_demo(capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path) -> None:
    prior = ("--prior", folder / "prior.safetensors", "--solver", "ddrm", "--samples", 2)
    check(report_of(capsys, "demo", *prior, "--out", tmp_path), "demo-report")
    check(json.loads((tmp_path / "report.json").read_text()), "demo-report")


def every_operator() -> list[Described]:
    return [
        one
        for cls in (getattr(problems, name) for name in problems.__all__)
        if isinstance(cls, type) and issubclass(cls, problems.Operator) and hasattr(cls, "examples")
        for one in cls.examples((3, 16, 16)).values()
    ]


@pytest.mark.slow
def test_every_operator_of_the_test_sheet_is_described() -> None:
    found = 0
    for operator in every_operator():
        problem = problems.InverseProblem(operator, problems.GaussianNoise(0.1))
        try:
            description = json.loads(json.dumps(problem.describe()))
        except ValueError:  # made of a Python function, which JSON cannot hold
            continue
        check(description, "problem")
        found += 1
    assert found > 20


def test_a_description_of_another_version_is_refused() -> None:
    problem = problems.InverseProblem(problems.Denoising(), problems.GaussianNoise(0.1))
    description = problem.describe()
    without = {key: value for key, value in description.items() if key != "format"}
    for one in (without, description):  # 0.1.0 wrote it without its format
        assert problem_from(one).describe() == description
    with pytest.raises(ValueError, match=r"format 'scoresde\.problem/2'.*reads 'scoresde"):
        problem_from(description | {"format": "scoresde.problem/2"})


def test_schemas_refuse_what_is_wrong() -> None:
    report = json.loads((ROOT / "benchmarks/results/comparison/comparison.json").read_text())
    validator = jsonschema.Draft202012Validator(SCHEMAS["compare-report"])
    for change in ({"format": "scoresde.compare-report/2"}, {"dataset": 3}, {"entrants": []}):
        assert not validator.is_valid(report | change)
    lacking = copy.deepcopy(report)
    del lacking["entrants"]["vae"]["quality"]["fid"]
    assert not validator.is_valid(lacking)
    assert validator.is_valid(report | {"new": 1})  # fields may be added


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_whole(name: str) -> None:
    """Valid, named as their file, with a description of every field."""
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    name_and_version = schema["properties"]["format"]["const"]
    assert re.fullmatch(rf"scoresde\.{name}/\d+", name_and_version)
    assert schema["$id"] == f"urn:{name_and_version.replace('/', ':')}"

    def described(one: dict[str, Any]) -> None:
        for key, value in one.get("properties", {}).items():
            assert value.get("description", "").endswith("."), key
        for value in one.values():
            for inner in value if isinstance(value, list) else [value]:
                if isinstance(inner, dict):
                    described(inner)

    described(schema)


def test_every_command_with_json_has_a_schema() -> None:
    from typer.main import get_command

    commands = get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        if any("--json" in parameter.opts for parameter in command.params):
            assert f"{name}-report" in SCHEMAS, name


# headers of other files, and what only the package itself reads
WITHOUT_SCHEMA = {
    *("average", "baseline", "classifier", "exported", "onnx", "prior", "training"),
    *("export", "names"),
    "slice",  # of a stack that was interrupted, removed when it is done
}


def test_every_json_file_names_a_known_format() -> None:
    found = set()
    for package in ("scoresde", "problems", "solvers"):
        for path in (ROOT / package).rglob("*.py"):
            found |= set(re.findall(r'"scoresde\.([a-z-]+)/\d+"', path.read_text()))
    assert set(SCHEMAS) <= found, "a schema of nothing"
    unknown = found - set(SCHEMAS) - WITHOUT_SCHEMA
    assert not unknown, f"write scoresde/schemas/NAME.json for {unknown}, or name it here"
