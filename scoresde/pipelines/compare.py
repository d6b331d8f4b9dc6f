"""Five families of generative models on the same data at the same cost.

Makes tables, the plot of the trilemma, grids of draws and a sheet of restorations.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from problems.checks import check_choice
from scoresde.data.datasets import read_arrays
from scoresde.data.images import from_bytes, to_bytes
from scoresde.errors import InputError
from scoresde.evaluation import Features, digit_features, inception_features, pixel_features
from scoresde.families.base import GenerativeModel
from scoresde.families.comparison.entrants import embedded_families, entrants, load_family
from scoresde.families.comparison.families import FAMILIES
from scoresde.families.comparison.judge import (
    SHOWN,
    Entrant,
    JudgeConfig,
    Judged,
    chosen,
    judge,
    measurement,
)
from scoresde.families.comparison.pictures import draws_sheet, restoration_sheet, trilemma
from scoresde.families.comparison.quality import RealData, judge_draws
from scoresde.families.comparison.restoration import problems_for
from scoresde.families.comparison.table import (
    density_table,
    quality_table,
    restoration_table,
    training_table,
)
from scoresde.families.comparison.training import train_family
from scoresde.families.store import load_model
from scoresde.files import check_writable, write_atomically, write_json
from scoresde.pipelines.workers import Workers, device_of_worker

__all__ = ["CompareOptions", "compare"]

_ARRAYS = ("train_images", "test_images")
"""Names of the arrays of a data set."""

# the blur that is restored has a kernel of 13 pixels, and networks halve the sides
_LEAST_SIDE = 16

_FEATURES: dict[str, Callable[[], Features]] = {
    "digits": digit_features,
    "pixels": pixel_features,
    "inception": inception_features,
}


@dataclass(frozen=True)
class CompareOptions:
    """What is compared, on what data, at what cost.

    Args:
        dataset: A .npz or .mat file with `train_images` and `test_images`, (N, H, W) or
            (N, H, W, C).
        out: Folder for the tables and the pictures.
        work: Folder that keeps trained models and scores.
        families: Names of the families.
        minutes: Minutes of training of each family; None for the weights that come with the
            package.
        features: "digits", "pixels" or "inception"; None for digits on grey pictures of 28x28, else
            inception.
        device: Device of torch.
        judging: How many draws, densities and restorations are measured.

    Raises:
        ValueError: If a family or the features are unknown, or the time is not positive.
    """

    dataset: Path
    out: Path
    work: Path
    families: tuple[str, ...] = tuple(FAMILIES)
    minutes: float | None = None
    features: str | None = None
    device: str = "cpu"
    judging: JudgeConfig = field(default_factory=JudgeConfig)

    def __post_init__(self) -> None:
        for name in self.families:
            check_choice("family", name, FAMILIES)
        if not self.families:
            raise ValueError(f"a comparison needs a family; known: {', '.join(FAMILIES)}")
        if self.minutes is not None and not 0 < self.minutes < math.inf:
            raise ValueError(f"a budget must be more than 0 minutes, got {self.minutes}")
        if self.features is not None:
            check_choice("features", self.features, _FEATURES)


def compare(
    options: CompareOptions,
    say: Callable[[str], None] | None = None,
    progress: bool = False,
    judging: Callable[[float], None] | None = None,
    workers: Workers | None = None,
) -> dict[str, Any]:
    """Train or load the families, evaluate them, and write the comparison.

    Writes comparison.json, comparison.md, trilemma.png, draws.png and restoration.png into
    `options.out`. Families are trained one after another by this process, because their budget is
    a time. They are judged by the workers, whose scores are the same, except for seconds.

    Args:
        options: What is compared.
        say: Called with a line for each piece of work.
        progress: Show a progress bar while training.
        judging: Called with the finished fraction of the evaluation, which follows.
        workers: Who judges; None for this process alone. Others find data and weights under the
            same paths.

    Returns:
        The report, as in comparison.json.

    Raises:
        InputError: If the data or the weights do not fit, or Dask is not installed.
        TrainingError: If a training fails.
    """
    say, out = say or (lambda _: None), check_writable(options.out)
    reference = read_reference(options)
    models = {
        name: _model(name, options, reference, say, progress)
        for name in FAMILIES
        if name in options.families
    }
    every = entrants(models, options.device)
    if workers is None or workers.alone:
        judged = _judged(every, reference, options, say, judging)
    else:
        judged = _judged_by(workers, every, options, say, judging)
    data = other_data(reference, options.judging)
    report = _report(judged, data, options, reference)
    write_json(report, out / "comparison.json")
    write_markdown(judged, data, options, reference, out / "comparison.md")
    draw_pictures(judged, data, options, reference, out)
    return report


def _stages(entrant: Entrant) -> int:
    """Pieces of work; a model that is judged by its draws alone has one."""
    return 2 + len(problems_for(tuple(entrant.model.shape))) if entrant.whole else 1


def _judged(
    every: list[Entrant],
    reference: RealData,
    options: CompareOptions,
    say: Callable[[str], None],
    judging: Callable[[float], None] | None,
) -> list[Judged]:
    """Judge one entrant after another."""
    judged = []
    stages = [_stages(one) for one in every]
    for i, entrant in enumerate(every):
        say(f"judging {entrant.title}")
        before, begun = sum(stages[:i]), itertools.count()

        def begin(what: str, before: int = before, begun: Iterator[int] = begun) -> None:
            say(f"  {what}")
            if judging:
                judging((before + next(begun)) / sum(stages))

        judged.append(judge(entrant, reference, options.judging, options.work / "judged", begin))
        if judging:
            judging(sum(stages[: i + 1]) / sum(stages))
    return judged


@dataclass(frozen=True)
class _Part:
    """An entrant, for any process."""

    options: CompareOptions
    index: int


def _judged_by(
    workers: Workers,
    every: list[Entrant],
    options: CompareOptions,
    say: Callable[[str], None],
    judging: Callable[[float], None] | None,
) -> list[Judged]:
    """Judge the entrants by several workers."""
    judged: dict[int, Judged] = {}
    stages = [_stages(one) for one in every]
    parts = [_Part(options, i) for i in range(len(every))]
    with closing(workers.finished(_judge_part, parts)) as each:
        for one in each:
            judged[one.index] = one.unwrap()
            say(f"judged {every[one.index].title}")
            if judging:
                judging(sum(stages[i] for i in judged) / sum(stages))
    return [judged[i] for i in range(len(every))]


def _judge_part(part: _Part) -> Judged:
    """Run on a worker."""
    reference, every = _opened(part.options)
    work = part.options.work / "judged"
    return judge(every[part.index], reference, part.options.judging, work)


@lru_cache(maxsize=1)
def _opened(options: CompareOptions) -> tuple[RealData, list[Entrant]]:
    """Data and trained models, once in each worker."""
    device = device_of_worker("auto") if options.device == "cuda" else options.device
    models = {}
    for name in FAMILIES:
        if name in options.families:
            trained = options.minutes is not None
            path = options.work / name / "model.safetensors"
            models[name] = load_model(path, device) if trained else load_family(name, device)
    return read_reference(options), entrants(models, device)


def read_reference(options: CompareOptions) -> RealData:
    """Read the data and choose the features.

    Args:
        options: What is compared.

    Returns:
        Images on [-1, 1] and the features that distances are measured in.

    Raises:
        InputError: If there are too few images, or those to train and test on differ in shape.
    """

    def pictures(key: str) -> Tensor:
        try:
            levels = read_arrays(options.dataset, key)
        except InputError as error:
            raise InputError(f"{error}; a comparison reads {' and '.join(_ARRAYS)}") from None
        return from_bytes(torch.from_numpy(levels).permute(0, 3, 1, 2))

    if options.dataset.suffix.lower() not in (".npz", ".mat"):
        raise InputError(
            f"{options.dataset} is no .npz or .mat file; a comparison reads {' and '.join(_ARRAYS)}"
        )
    train, test = (pictures(key) for key in _ARRAYS)
    if train.shape[1:] != test.shape[1:]:
        raise InputError(
            f"pictures to train on are {tuple(train.shape[1:])}, to test on "
            f"{tuple(test.shape[1:])}; they must be of one shape"
        )
    if min(train.shape[2:]) < _LEAST_SIDE:
        raise InputError(
            f"the families need pictures of at least {_LEAST_SIDE}x{_LEAST_SIDE}, those of "
            f"{options.dataset} are {train.shape[3]}x{train.shape[2]}"
        )
    needed = max(options.judging.samples, options.judging.likelihoods + options.judging.pictures)
    if min(len(train) - options.judging.samples, len(test)) < needed:
        raise InputError(
            f"{needed} pictures of each kind are needed beyond those compared; {options.dataset} "
            f"has {len(train)} and {len(test)}"
        )
    digits = tuple(train.shape[1:]) == (1, 28, 28) and options.features in (None, "digits")
    name = options.features or ("digits" if digits else "inception")
    return RealData(train, test, _FEATURES[name](), digits)


def _model(
    name: str,
    options: CompareOptions,
    reference: RealData,
    say: Callable[[str], None],
    progress: bool,
) -> GenerativeModel:
    if options.minutes is not None:
        say(f"training {FAMILIES[name].title} for {options.minutes:g} minutes")
        return train_family(
            name,
            options.dataset,
            _ARRAYS[0],
            options.work / name,
            options.minutes,
            seed=options.judging.seed,
            device=options.device,
            progress=progress,
        )
    if name not in embedded_families():
        raise InputError(
            f"no weights of {name} come with the package; give a --budget, in minutes, to train it"
        )
    model = load_family(name, options.device)
    if tuple(model.shape) != tuple(reference.train.shape[1:]):
        raise InputError(
            f"the weights that come with the package are for pictures {tuple(model.shape)}, these "
            f"are {tuple(reference.train.shape[1:])}; give a --budget, in minutes, to train others"
        )
    return model


def other_data(reference: RealData, config: JudgeConfig) -> Judged:
    """Score training pictures in the place of draws: what a perfect model would score.

    Args:
        reference: The data.
        config: How many draws are compared.

    Returns:
        The scores. The other training pictures take the place of the training set.
    """
    draws, rest = reference.train[: config.samples], reference.train[config.samples :]
    scores = {
        "quality": judge_draws(
            draws, RealData(rest, reference.test, reference.features, reference.digits)
        )
    }
    return Judged("data", "other data", scores, {"draws": to_bytes(draws[:SHOWN])})


def _report(
    judged: list[Judged], data: Judged, options: CompareOptions, reference: RealData
) -> dict[str, Any]:
    return {
        "format": "scoresde.compare-report/1",
        "dataset": options.dataset.name,
        "features": reference.features.name,
        "minutes": options.minutes,
        "entrants": {one.name: {"title": one.title, **one.scores} for one in judged},
        "data": data.scores,
    }


def write_markdown(
    judged: list[Judged], data: Judged, options: CompareOptions, reference: RealData, path: Path
) -> None:
    """Write the tables as Markdown.

    Args:
        judged: Scores of every entrant.
        data: Scores of real data.
        options: What is compared.
        reference: The data.
        path: File to write.
    """
    whole = [one for one in judged if "restoration" in one.scores]
    name, config = options.dataset, options.judging
    text = f"""# Five families of generative models on {name.stem}

Made by `scoresde compare --dataset {name.name}`. FID, KID, precision, recall, density and coverage
in {reference.features.name}; {config.samples} draws of each model against
{len(reference.test)} test pictures (the neighbourhoods against as many as there are draws).
"Other data" are training pictures in the place of draws: what a perfect model would score.

![quality and coverage against speed](trilemma.png)

## Draws

{quality_table(judged, data)}
copies: share of draws closer to a training picture than all but 1 % of the test pictures are; 1 %
is what new data has. Speed is that of the machine where this was made, by processor time of one
thread where it has no GPU.

![draws of every family](draws.png)

## Density

{density_table(whole, published=reference.digits)}
Of the first {config.likelihoods} test pictures, one dequantisation each for the continuous models;
standard errors are those over the pictures. "exact" of the diffusion model is that of the
probability-flow ODE at the smallest noise of its training, with a stochastic trace; its ELBO is
that of the reverse SDE, whose distribution is another unless the score is perfect.

## Restoration

{restoration_table(whole)}
truth in range: share of the pixels whose truth lies within the range of the draws, of those where
truth and draws are not all one grey level (equal values ranked at random); the number in brackets
is what draws of the right posterior have. misfit: |y - A x|² over its expectation at the truth.

![the same measurements restored by every family](restoration.png)

## Training

{training_table(whole)}
The same data and the same time for each of the five; processor time is that of one thread where
there is one. Memory: of the tensors alive at the peak of a step or of its checkpoint; scratch of
kernels not counted.
"""
    write_atomically(path, lambda temporary: temporary.write_text(text))


def draw_pictures(
    judged: list[Judged], data: Judged, options: CompareOptions, reference: RealData, out: Path
) -> None:
    """Draw draws.png, trilemma.png and restoration.png.

    Args:
        judged: Scores and pictures of every entrant.
        data: Pictures of real data.
        options: What is compared.
        reference: The data.
        out: Folder to write into.
    """
    families = [one for one in judged if one.name in FAMILIES]
    draws_sheet(
        [(one.title, one.pictures["draws"]) for one in (*families, data)], out / "draws.png"
    )
    trilemma(judged, data, out / "trilemma.png")
    shape = tuple(reference.test.shape[1:])
    measured = {
        name: to_bytes(measurement(reference, options.judging, name))
        for name in problems_for(shape)
    }
    restoration_sheet(
        families, to_bytes(chosen(reference, options.judging)), measured, out / "restoration.png"
    )
