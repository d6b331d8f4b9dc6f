"""Parts of the benchmark scripts whose answers are known: rates, ratios, FFDNet, tables."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import problems
from scoresde import InputError
from scoresde.networks import UNet, UNetConfig
from solvers import SOLVERS
from tests.conftest import seeded


def test_rates_are_weighted_by_the_work(script) -> None:
    rates = script("rates")
    # 100 at 10 a second and 100 at 50 a second take 12 seconds
    assert rates.weighted_rate([100, 100], [10, 50]) == pytest.approx(200 / 12)
    assert rates.weighted_rate([7], [3]) == pytest.approx(3)


def test_ratios_are_those_of_pairs(script) -> None:
    """A machine that is ten times slower for a while does not matter."""
    rates = script("rates")
    assert rates.median_ratio([2, 20, 2.2], [1, 10, 1]) == 2
    with pytest.raises(ValueError, match="longer"):
        rates.median_ratio([1], [1, 2])


@pytest.mark.slow
def test_operations_of_a_convolution(script) -> None:
    rates = script("rates")
    shape, layer = rates.ConvShape(3, 5, 6, 8), torch.nn.Conv2d(3, 5, 3, padding=1)
    x = torch.zeros(2, 3, 6, 8)
    assert shape.flops(2) == 2 * 2 * 9 * 3 * 5 * 6 * 8 == rates.count_flops(lambda: layer(x))


@pytest.mark.slow
def test_shapes_of_a_network(script) -> None:
    """Of the small UNet: the stem, two blocks a level and direction of two convolutions, a head."""
    rates = script("rates")
    network = UNet(UNetConfig(channels=1, widths=(4, 8), blocks=1, attention=()))
    network.requires_grad_(False)
    x, label = torch.zeros(3, 1, 16, 16), torch.zeros(3)
    shapes, dtype = rates.convolution_shapes(lambda: network(x, label))
    fine, coarse = (8, 8), (4, 4)
    assert dtype == torch.float32
    assert shapes == Counter(
        {
            rates.ConvShape(4, 4, *fine): 6,  # stem and head have 4 folded channels, too
            rates.ConvShape(8, 8, *coarse): 2,
        }
    )


@pytest.mark.parametrize("backward", ["none", "input", "all"])
def test_the_work_of_the_reference_is_what_torch_counts(script, backward: str) -> None:
    rates = script("rates")
    shapes = Counter({rates.ConvShape(2, 4, 5, 5): 3})
    made = rates.Convolutions(shapes, 2, torch.float32, torch.device("cpu"), backward, least=0)
    ((layer, x),) = made.layers
    assert made.flops == [rates.count_flops(lambda: made._run(layer, x))]
    assert made.rate() > 0


def test_the_closest_width(script) -> None:
    rates = script("rates")
    assert rates.closest_width(lambda w: w**2, range(1, 20), 102) == 10
    with pytest.raises(ValueError, match="10 %"):
        rates.closest_width(lambda w: w**2, [1, 20], 100)


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 1)])
def test_ffdnet_takes_any_size(script, size: tuple[int, int]) -> None:
    ffdnet = script("ffdnet")
    prior = ffdnet.FFDNetPrior(ffdnet.FFDNet().requires_grad_(False))
    x = torch.randn(2, 3, *size, generator=seeded())
    assert prior.denoise(x, 0.3).shape == x.shape


def test_ffdnet_has_its_parameters_and_knows_the_noise(script, tmp_path: Path) -> None:
    ffdnet = script("ffdnet")
    network = ffdnet.FFDNet()
    # 13 -> 96, ten of 96 -> 96, 96 -> 12
    assert sum(p.numel() for p in network.parameters()) == (
        96 * (9 * 13 + 1) + 10 * 96 * (9 * 96 + 1) + 12 * (9 * 96 + 1)
    )
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    prior = ffdnet.open_ffdnet(tmp_path / "weights.safetensors", torch.device("cpu"))
    x = torch.randn(1, 3, 8, 8, generator=seeded())
    assert not torch.equal(prior.denoise(x, 0.1), prior.denoise(x, 0.5))
    # above the levels of its training the network is told the largest
    assert torch.equal(prior.denoise(x, 1.0), prior.denoise(x, 2.0))
    with pytest.raises(InputError, match="FFDNet"):
        ffdnet.open_ffdnet(tmp_path / "missing.safetensors", torch.device("cpu"))


def test_cells_are_kept_and_dropped(script, tmp_path: Path) -> None:
    tables = script("tables")
    cells = tables.Cells(tmp_path / "cells.json")
    for key in ("a/1", "a/2", "b/1"):
        cells.put(key, {"seconds": 1.0})
    again = tables.Cells(tmp_path / "cells.json")
    assert "a/2" in again and len(again.under("a/")) == 2 and again.get("c") is None
    again.drop("a/")
    assert list(again.values) == ["b/1"]


def test_commands_on_pages_name_no_folders_of_a_machine(script) -> None:
    arguments = ["--images", "/x/bsds500/val", "--with", "more=/x/y/p.safetensors", "--out", "/z"]
    assert script("tables").short_command("speed.py", arguments) == (
        "python benchmarks/speed.py --images bsds500/val --with more=p.safetensors"
    )


def test_products_with_the_jacobian(script) -> None:
    from solvers import DDIM, MMPS, Guided, make_solver
    from solvers.posterior.second_order import SecondOrderAncestral

    count = script("speed").products_per_evaluation
    assert count(Guided(MMPS(iterations=3, lanczos=7), DDIM(5))) == 3
    second_order = SecondOrderAncestral(5, lanczos=2, correction=MMPS(iterations=4))
    assert count(second_order) == 6
    assert count(make_solver("warm-start")) == 2 + 16


def test_a_commit_that_is_missing(script) -> None:
    found = script("speed").checkout("0" * 40)
    with pytest.raises(SystemExit, match="is not in this clone"), found:
        pass


def test_every_named_solver_is_in_the_table_or_said_to_be_missing(script) -> None:
    restoration = script("restoration")
    named = {k for k, one in SOLVERS.items() if one.build.__module__.startswith("solvers.")}
    assert named == set(restoration.NAMES.values()) | set(restoration.TOO_LARGE)


def test_cells_of_older_tables_without_coverage_are_shown(script, tmp_path: Path) -> None:
    restoration = script("restoration")
    scores = {"psnr": 25.0, "ssim": 0.7, "lpips": None}
    cost = {"nfe": 20, "vjps": 60, "seconds": 1.5}
    results = restoration.Results(tmp_path / "restoration.json")
    results.put({"mean": scores, "draw": scores, **cost}, "box 40×40", "MMPS", "p")
    results.put({"mean": scores, "coverage": 0.8, "draw": scores, **cost}, "box 40×40", "DPS", "p")
    results.put({"mean": scores, **cost}, "box 40×40", "HQS", "p")
    rows = [line for line in restoration.page(results, ["p"], 8, "") if line.startswith("| **")]
    assert rows == [
        "| **MMPS** | 25.00 | 0.700 | 25.00 | 0.700 | | 1.5 | 20 + 60 |",
        "| **DPS** | 25.00 | 0.700 | 25.00 | 0.700 | 80.0% | 1.5 | 20 + 60 |",
        "| **HQS** | 25.00 | 0.700 | | | | 1.5 | 20 + 60 |",
    ]


def test_the_page_of_restoring_then_and_now(script, tmp_path: Path) -> None:
    speed, tables = script("speed"), script("tables")
    cells = tables.Cells(tmp_path / "speed.json")
    for number, (then, now) in enumerate([(10.0, 4.0), (12.0, 3.0), (30.0, 10.0)]):
        common = {"psnr": 26.0, "solver": "mmps", "draws": 8}
        cell = {
            "problem": "box 40×40",
            "then": {"seconds": then, "coverage": 0.6, **common},
            "now": {"seconds": now, "coverage": 0.7, **common},
            "quick": {"seconds": now / 2, "coverage": 0.5, **common},
        }
        cells.put(f"b/here/box 40×40/{number}", cell)
    lines = speed.lines_b(cells, "here", "1234567")
    assert lines[-2] == (
        "| box 40×40 | 12.00 | 4.00 | 2.00 | **3.00** | **6.00** | 26.00 | 26.00 | 26.00 | "
        "60.0% | 70.0% | 50.0% |"
    )
    assert lines[0].startswith("The first 3 pictures") and "mmps, 8 draws" in lines[0]


def test_rows_of_the_ablation_that_are_complete(script, tmp_path: Path) -> None:
    ablation, tables = script("ablation"), script("tables")
    assert len({row.name for row in ablation.ROWS}) == len(ablation.ROWS)
    cells = tables.Cells(tmp_path / "ablation.json")
    keys = {name: f"{name}/weights/cpu" for name in ("first", "fast", "unfinished")}
    for name, seconds, psnr in (("first", 8.0, 25.0), ("fast", 2.0, 26.5)):
        cell = {"seconds": seconds, "psnr": psnr, "coverage": None, "nfe": 4, "vjps": 16}
        cells.put(f"{keys[name]}/box/p", cell)
    assert ablation.rows_of(cells, keys, ["box/p"]) == [
        ["first", "weights", "8.00", "1.00", "25.00", "+0.00", "", "4 + 16"],
        ["fast", "weights", "2.00", "4.00", "26.50", "+1.50", "", "4 + 16"],
    ]


@pytest.mark.slow
def test_ffdnet_as_a_prior_begins_where_its_training_ends(script, tmp_path: Path) -> None:
    """Known levels bound the first one; a prior that does not tell them starts at 5, as others."""
    ffdnet, foreign, five = script("ffdnet"), script("foreign"), script("five_problems")
    torch.manual_seed(0)
    save_file(ffdnet.FFDNet().state_dict(), tmp_path / "weights.safetensors")
    made = foreign.priors(tmp_path / "weights.safetensors", torch.device("cpu"))
    operators = five.operators(0, 96)
    assert set(operators) == set(five.PROBLEMS)
    measurement = problems.InverseProblem(operators["×4 bicubic"], problems.GaussianNoise(0.05))
    truth = torch.zeros(1, 3, 96, 96)
    for name, first in ((foreign.BOUNDED, ffdnet.LARGEST_NOISE), (foreign.UNBOUNDED, 5.0)):
        cell = foreign.restored(made[name](), "diffpir", measurement, truth, 2, 0)
        assert cell["first"] == pytest.approx(first, rel=1e-5)
        assert cell["nfe"] == 30 and cell["vjps"] == 0


@pytest.mark.slow
def test_ffdnet_denoises_alike_as_a_module_and_as_a_prior(script) -> None:
    ffdnet, foreign = script("ffdnet"), script("foreign")
    torch.manual_seed(0)
    x = 2 * torch.rand(1, 3, 21, 18, generator=seeded()) - 1
    found = foreign.denoised(ffdnet.FFDNet(depth=3), x, 25 / 255, 0)
    assert found["difference"] < 1e-5
    assert found["prior"] == pytest.approx(found["module"], abs=1e-3)
