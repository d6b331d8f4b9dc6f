"""The contents of the package: embedded priors with their cards, and no pickles."""

import ast
from pathlib import Path

import pytest
import torch

from scoresde import load_prior
from scoresde.priors.checkpoint import embedded_priors
from solvers import Heun
from tests.conftest import seeded

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["natural"])
def test_embedded_priors_ship_with_a_card(name: str) -> None:
    path = embedded_priors()[name]
    assert path.stat().st_size < 16e6
    prior = load_prior(name)
    assert prior.card["summary"] and prior.card["training"]["seed"] is not None
    card = path.with_suffix(".md").read_text()
    for word in ("BSDS500", "Licence", "seed", "scoresde train", "BM3D", "FFDNet", "DRUNet"):
        assert word in card, f"the card of {name} does not mention {word}"


def test_the_natural_prior_denoises_a_photograph() -> None:
    """A packaged photograph at sigma 25 of 255.

    A prior with wrong weights, scale or time would be far below 28 dB.
    """
    import skimage.data

    from scoresde.evaluation import psnr

    x = (
        torch.from_numpy(skimage.data.chelsea()[60:220, 130:290].copy())
        .permute(2, 0, 1)[None]
        .float()
        / 127.5
        - 1
    )
    sigma = 50 / 255
    noisy = x + sigma * torch.randn(x.shape, generator=seeded(0))
    restored = load_prior("natural").denoise(noisy, sigma)
    assert psnr(noisy, x).item() < 21
    assert psnr(restored, x).item() > 28


@pytest.mark.slow
def test_the_natural_prior_draws_pictures_with_the_statistics_of_photographs() -> None:
    """Draws are neither noise nor grey.

    Their contrast and smoothness are within the range of crops of photographs.
    """
    draws = Heun(12).sample(load_prior("natural"), 4, generator=seeded(0)).clamp(-1, 1)
    neighbours = (draws[..., 1:] - draws[..., :-1]).std()
    assert draws.shape == (4, 3, 64, 64) and bool(draws.isfinite().all())
    assert 0.1 < float(draws.std()) < 0.9
    assert float(neighbours) < 0.5 * float(draws.std())


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


# The one module that reads pickles of others, and tensors in them alone
FOREIGN_WEIGHTS = ROOT / "scoresde" / "priors" / "adapted" / "weights.py"


def test_foreign_weights_are_read_without_running_code() -> None:
    """Of pickle it uses the error alone, and it loads with `weights_only=True`."""
    nodes = list(ast.walk(ast.parse(FOREIGN_WEIGHTS.read_text())))
    used = {ast.unparse(n) for n in nodes if isinstance(n, ast.Attribute)}
    assert {name for name in used if name.startswith("pickle.")} == {"pickle.UnpicklingError"}
    assert "torch.save" not in used
    loads = [n for n in nodes if isinstance(n, ast.Call) and ast.unparse(n.func) == "torch.load"]
    assert loads
    for call in loads:
        assert "weights_only=True" in [ast.unparse(k) for k in call.keywords], call.lineno


@pytest.mark.slow
def test_nothing_is_pickled() -> None:
    for package in ("scoresde", "problems", "solvers"):
        for path in (ROOT / package).rglob("*.py"):
            if path == FOREIGN_WEIGHTS:
                continue
            text = path.read_text()
            assert (
                not {"pickle", "dill", "joblib"} & imported(path)
                and "torch.save" not in text
                and "torch.load" not in text
            ), path
