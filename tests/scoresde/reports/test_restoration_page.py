"""The page of a restoration: whole, escaped, and true to its numbers and tensors."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from problems import (
    Denoising,
    GaussianNoise,
    Inpainting,
    InverseProblem,
    PoissonNoise,
    SuperResolution,
    Tomography,
    box_mask,
)
from scoresde.data.images import to_uint8
from scoresde.reports import PriorNote, RestorationPage, RestorationPictures, restoration_page
from scoresde.reports.numbers import restoration_numbers
from scoresde.reports.restoration_views import restoration_views
from scoresde.reports.views import LEVELS_PER_UNIT, embedded
from solvers.posterior.path import DenoisingPath
from tests.conftest import seeded
from tests.pages import Element, faults, parsed

NASTY = "<script>alert('x')</script>\"&amp;.png"
SIDE = 12


def pictures(problem: InverseProblem, n: int = 3, channels: int = 3) -> RestorationPictures:
    g = seeded()
    truth = (0.5 * torch.randn(1, channels, SIDE, SIDE, generator=g)).clamp(-1, 1)
    draws = truth + 0.1 * torch.randn(n, 1, channels, SIDE, SIDE, generator=g)
    ends = (draws.amin(0), draws.amax(0)) if n > 1 else None
    return RestorationPictures(problem, problem.measure(truth, g), draws, truth, ends)


def report(n: int = 3, **more: Any) -> dict[str, Any]:
    residual = {
        "ratio": 0.9375,
        "ratios": [0.9, 0.9375, 0.97][:n],
        "mean_ratio": 0.6,
        "mean_expected": 0.7,
        "warnings": [],
    }
    found = {
        "read": {"kind": NASTY, "range": [0.0, 255.0], "range_rule": NASTY, "notes": [NASTY]},
        "problem": "denoise",
        "sigma": 0.05,
        "sigma_given": False,
        "prior": NASTY,
        "solver": NASTY,
        "samples": n,
        "seed": 11,
        "size": [SIDE, SIDE],
        "nfe": 7,
        "vjps": 23,
        "seconds": 8.5812345,
        "mean_std": 0.0241167,
        "mean": {"psnr": 32.426540, "ssim": 0.91665},
        "draw": {"psnr": 31.5, "ssim": 0.9},
        "residual": residual,
        "files": ["mean.png", NASTY],
    }
    if n > 1:
        found["interval"] = {
            "level": 0.9,
            "calibrated": False,
            "mean_width": 0.0793,
            "coverage": 0.6792,
        }
    else:
        found["mean_std"] = None
    return found | more


def page(n: int = 3, warnings: tuple[str, ...] = (), **more: Any) -> RestorationPage:
    return RestorationPage(
        title=NASTY,
        task=NASTY,
        report=report(n, **more),
        described={"operator": "</script><b>", "mask": [1, float("nan")]},
        command=f"scoresde restore {NASTY}",
        python=f"restore({NASTY!r})",
        environment={"scoresde": "0.1.0", NASTY: NASTY},
        memory={"bytes": 123_456_789, "of": NASTY},
        prior=PriorNote(NASTY, NASTY, 2_770_000, NASTY),
        warnings=warnings,
    )


DENOISING = InverseProblem(Denoising(), GaussianNoise(0.1))
PROBLEMS = {
    "denoise": DENOISING,
    "inpaint": InverseProblem(Inpainting(box_mask(SIDE, SIDE, 2, 3, 4, 5)), GaussianNoise(0.1)),
    "super-resolve": InverseProblem(SuperResolution(2), GaussianNoise(0.1)),
    "tomography": InverseProblem(Tomography((0.0, 45.0, 90.0), (SIDE, SIDE)), GaussianNoise(0.1)),
    "photons": InverseProblem(Denoising(), PoissonNoise(100)),
}


def by_key(root: Element) -> dict[str, str]:
    return {one.get("data-key"): one.get("value") for one in root.all("data")}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_page_is_whole_and_usable(problem: str, channels: int, n: int) -> None:
    html = restoration_page(page(n), pictures(PROBLEMS[problem], n, channels))
    assert faults(html) == []


def test_nothing_of_a_run_becomes_markup() -> None:
    """Names, notes and files with tags in them stay text, in the page and in its scripts."""
    html = restoration_page(page(warnings=(NASTY,)), pictures(DENOISING))
    root = parsed(html)
    assert "alert('x')" not in "".join(one.text for one in root.all("script"))
    assert NASTY in root.all("h1")[0].text and NASTY in root.all("title")[0].text
    assert html.count("<script") == html.count("</script>") == len(root.all("script")) == 4
    assert not root.all("b")


def test_problem_json_is_shown_and_can_be_read() -> None:
    root = parsed(restoration_page(page(), pictures(DENOISING)))
    shown = next(one.text for one in root.all("pre") if one.get("id") == "problem")
    assert json.loads(shown)["operator"] == "</script><b>"


def test_it_forbids_itself_every_connection() -> None:
    root = parsed(restoration_page(page(), pictures(DENOISING)))
    policy = next(
        one.get("content")
        for one in root.all("meta")
        if one.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split(maxsplit=1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert not re.search(r"https?:", policy)


def test_numbers_are_those_of_the_report_with_all_digits() -> None:
    made = page()
    shown = by_key(parsed(restoration_page(made, pictures(DENOISING))))

    def at(key: str) -> Any:
        value: Any = made.report
        for part in key.split("."):
            value = value[int(part) - 1] if isinstance(value, list) else value[part]
        return value

    keys = [key for key in shown if key != "memory"]
    assert len(keys) >= 14
    assert {key: float(shown[key]) for key in keys} == {key: at(key) for key in keys}


@pytest.mark.parametrize("problem", ["denoise", "inpaint", "super-resolve"])
def test_pixels_in_the_page_are_those_of_the_tensors(problem: str) -> None:
    given = pictures(PROBLEMS[problem])
    assert given.truth is not None and given.ends is not None
    root = parsed(restoration_page(page(), given))
    shown = {one.get("id"): embedded(one.get("src")) for one in root.all("img")}
    wanted: dict[str, Tensor] = {
        "truth": given.truth,
        "measurement": given.y,
        "mean": given.draws.mean(0),
        "draw-1": given.draws[0],
        "draw-3": given.draws[2],
        "lower": given.ends[0],
        "upper": given.ends[1],
    }
    for key, x in wanted.items():
        assert (shown[f"img-{key}"] == to_uint8(x[0])).all(), key


def test_the_residual_is_the_measurement_minus_the_prediction_of_the_mean() -> None:
    given = pictures(PROBLEMS["inpaint"])
    view = next(one for one in restoration_views(given)[0] if one.key == "residual")
    seen = given.problem.operator.observed(given.y)[0, 0].numpy()
    r = (given.y - given.draws.mean(0))[0].mean(0).numpy() * LEVELS_PER_UNIT
    back = view.scale.values(view.pixels)
    assert np.isnan(back[~seen]).all()
    assert np.abs(back - r)[seen].max() <= view.scale.step / 2 + 1e-4


def test_the_standard_deviation_is_that_of_the_draws() -> None:
    given = pictures(DENOISING, n=5)
    view = next(one for one in restoration_views(given)[0] if one.key == "std")
    std = given.draws.std(0)[0].mean(0).numpy() * LEVELS_PER_UNIT
    assert np.abs(view.scale.values(view.pixels) - std).max() <= view.scale.step / 2 + 1e-4


def test_a_measurement_that_is_no_picture_has_no_residual_map() -> None:
    keys = [one.key for one in restoration_views(pictures(PROBLEMS["tomography"]))[0]]
    assert "measurement" in keys and "residual" not in keys


def test_one_estimate_claims_no_certainty() -> None:
    made = page(1)
    root = parsed(restoration_page(made, pictures(DENOISING, n=1)))
    text = root.text
    assert "says nothing about how sure it is" in text and "±" not in text
    keys = {number.key for number in restoration_numbers(made.report)}
    assert not any("interval" in key or key.startswith("draw") for key in keys)


def test_the_half_width_is_in_grey_levels() -> None:
    assert f"±{0.0793 / 2 * 127.5:.1f} of 255" in restoration_page(page(), pictures(DENOISING))


@pytest.mark.parametrize("failed", [True, False])
def test_a_box_warns_if_and_only_if_there_is_something(failed: bool) -> None:
    residual = report()["residual"] | {"warnings": [{"kind": "x", "message": "suspect the scale"}]}
    made = page(residual=residual) if failed else page()
    root = parsed(restoration_page(made, pictures(DENOISING)))
    boxes = [one for one in root.all("div") if "warning" in one.get("class").split()]
    assert len(boxes) == failed
    assert ("suspect the scale" in root.text) == failed
    assert ("check passed" in root.text) == (not failed)


def test_a_warning_of_the_solver_is_shown_beside_a_passed_check() -> None:
    root = parsed(restoration_page(page(warnings=("2 of 3 draws",)), pictures(DENOISING)))
    box = next(one for one in root.all("div") if "warning" in one.get("class").split())
    assert "2 of 3 draws" in box.text and "check passed" in root.text


def test_large_pictures_are_reduced_and_the_page_says_so() -> None:
    x = torch.zeros(1, 1, 2001, 2000)
    given = RestorationPictures(DENOISING, x, x[None])
    html = restoration_page(page(1), given)
    assert "mean of 2 × 2 pixels" in html
    data = next(one for one in parsed(html).all("script") if one.get("id") == "viewer-data")
    viewer = json.loads(data.text)
    assert (viewer["width"], viewer["height"]) == (1000, 1001)
    assert {(view["width"], view["height"]) for view in viewer["views"]} == {(1000, 1001)}


def walked(draws: Tensor, levels: tuple[float, ...], most: int = 8) -> DenoisingPath:
    """A path whose last estimate is the first draw."""
    path = DenoisingPath(most)
    for s in levels:
        path.add(s, draws[0, 0] * (1 if s == levels[-1] else 0.5), "draw")
    return path


def film_of(html: str) -> list[tuple[str, Element]]:
    """Caption and image of each picture on the way."""
    lists = [one for one in parsed(html).all("ol") if one.get("class") == "film"]
    items = [item for one in lists for item in one.all("li")]
    return [(item.text.strip(), item.all("img")[0]) for item in items]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_way_from_noise_is_shown_with_its_levels(channels: int) -> None:
    given = pictures(DENOISING, channels=channels)
    path = walked(given.draws, (4.0, 2.0, 1.0, 0.5))
    html = restoration_page(page(), replace(given, path=path))
    assert faults(html) == []
    found = film_of(html)
    captions = ["noise 510", "noise 255", "noise 128", "noise 63.8: the result"]
    assert [caption for caption, _ in found] == captions
    assert all(image.get("alt") for _, image in found)
    for (_, image), one in zip(found, path.estimates, strict=True):
        assert (embedded(image.get("src")) == to_uint8(one.x0)).all()


def test_a_result_that_differs_from_the_last_estimate_is_shown_by_itself() -> None:
    given = pictures(DENOISING)
    for most, expected in ((4, 4), (8, 5)):
        path = walked(given.draws * 0.9, (4.0, 2.0, 1.0, 0.5), most)
        found = film_of(restoration_page(page(), replace(given, path=path)))
        assert len(found) == expected and found[-1][0] == "the result"
        assert (embedded(found[-1][1].get("src")) == to_uint8(given.draws[0, 0])).all()


def test_no_way_is_shown_that_was_not_recorded() -> None:
    given = pictures(DENOISING)
    for path in (None, DenoisingPath(), walked(given.draws, (2.0, 1.0))):
        html = restoration_page(page(), replace(given, path=path))
        assert film_of(html) == [] and "From noise" not in html


def test_the_way_of_a_large_picture_is_small() -> None:
    draws = torch.zeros(1, 1, 1, 600, 1000)
    given = RestorationPictures(DENOISING, draws[0], draws)
    path = walked(draws, tuple(2.0**-i for i in range(20)))
    found = film_of(restoration_page(page(1), replace(given, path=path)))
    assert len(found) == 8
    assert {embedded(image.get("src")).shape for _, image in found} == {(150, 250)}
