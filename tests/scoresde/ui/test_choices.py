"""What a visitor chose becomes the options of the command, or one clear line."""

from pathlib import Path

import pytest

from scoresde.errors import InputError
from scoresde.pipelines.settings import ProblemOptions, RestoreOptions
from scoresde.ui.choices import KINDS, Choices, grey_levels, instant
from scoresde.ui.limits import Limits

MASK = Path("mask.png")
CHOSEN = {
    "mask": (Choices("missing", mask=MASK), ProblemOptions("inpaint", mask=MASK)),
    "box": (Choices("missing", box=" 1, 2,3 ,4"), ProblemOptions("inpaint", box="1,2,3,4")),
    "soft": (Choices("blur", width=1.5), ProblemOptions("deblur", gaussian=1.5)),
    "unfocused": (Choices("blur", blur="disk", width=3.0), ProblemOptions("deblur", disk=3.0)),
    "moved": (
        Choices("blur", blur="motion", width=15, angle=30),
        ProblemOptions("deblur", motion="15,30"),
    ),
    "soft, who knows how much": (
        Choices("blur", width=None),
        ProblemOptions("deblur", gaussian="auto"),
    ),
    "unfocused, who knows how much": (
        Choices("blur", blur="disk", width=None),
        ProblemOptions("deblur", disk="auto"),
    ),
    "moved, who knows where": (
        Choices("blur", blur="motion", width=None),
        ProblemOptions("deblur", motion="auto"),
    ),
    "small": (Choices("small", scale=3.0), ProblemOptions("super-resolve", scale=3.0)),
    "noise": (Choices("noise"), ProblemOptions("denoise")),
    "jpeg of the file": (Choices("jpeg"), ProblemOptions("jpeg")),
    "jpeg": (Choices("jpeg", quality=7), ProblemOptions("jpeg", set=("quality=7",))),
}
PRIORS = ("natural",)


@pytest.mark.parametrize(("choices", "options"), CHOSEN.values(), ids=CHOSEN)
def test_each_kind_of_damage_is_a_problem_of_the_command(
    choices: Choices, options: ProblemOptions
) -> None:
    assert choices.problem() == options


def test_every_kind_on_the_page_is_covered() -> None:
    assert {choices.kind for choices, _ in CHOSEN.values()} == set(KINDS)


def test_noise_is_told_in_grey_levels_and_passed_on_as_a_standard_deviation() -> None:
    options = Choices("noise", noise=25.5).options(Limits(), PRIORS)
    assert options.sigma == 0.2 and grey_levels(0.2) == 25.5
    assert options.batch == 1, "draws arrive one at a time"
    # the size of the rounding, which the pipeline knows
    for noise in (25.5, None):
        assert Choices("jpeg", noise=noise).options(Limits(), PRIORS).sigma is None


def test_noise_that_is_not_known_is_estimated() -> None:
    assert Choices("blur", noise=None).options(Limits(), PRIORS).sigma == "auto"


def test_a_method_that_gives_one_answer_is_not_asked_for_several() -> None:
    assert Choices("noise", solver="hqs", draws=8).options(Limits(), PRIORS).samples == 1
    assert Choices("noise", solver="ddrm", draws=8).options(Limits(), PRIORS).samples == 8


def test_the_first_answer_keeps_all_but_the_solver() -> None:
    options = RestoreOptions(sigma=0.3, seed=5, tile=512, samples=8, sampler="heun", solver="mmps")
    first = instant(options, "deblur")
    assert (first.solver, first.sampler, first.samples) == ("hqs", None, 1)
    assert (first.sigma, first.seed, first.tile) == (0.3, 5, 512)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (Choices("noise", prior="/etc/passwd"), "unknown prior"),
        (Choices("noise", prior="torch-export:evil.pt2"), "unknown prior"),
        (Choices("noise", solver="magic"), "unknown solver"),
        (Choices("noise", steps=10**6), "the steps must be from 1 to 200"),
        (Choices("noise", draws=33), "the draws must be from 1 to 32"),
        (Choices("noise", draws=0), "the draws must be from 1 to 32"),
        (Choices("noise", seed=-1), "the seed"),
        (Choices("noise", noise=0.0), "the noise must be above 0"),
        (Choices("noise", noise=float("nan")), "the noise must be above 0"),
    ],
)
def test_a_browser_cannot_ask_for_what_the_page_does_not_offer(
    choices: Choices, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        choices.options(Limits(), PRIORS)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (Choices("missing"), "paint over the missing parts, or type a rectangle"),
        (Choices("../x.json"), "unknown damage"),
        (Choices("blur", blur="kernel"), "unknown kind of blur"),
        (Choices("blur", width=None, simulate=True), "needs the width of its blur"),
    ],
)
def test_damage_that_is_not_known(choices: Choices, words: str) -> None:
    with pytest.raises(InputError, match=words):
        choices.problem()


@pytest.mark.parametrize("name", vars(Limits()))
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(InputError, match=f"limit on {name} must be above 0"):
        Limits(**{name: 0})
