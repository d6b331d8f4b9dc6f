"""Restore a picture for the page, and report on the way.

:func:`perform` calls the pipeline of `scoresde restore`; :func:`serve` is the loop of the process
that runs it.
"""

import contextlib
import math
import signal
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from problems import GaussianNoise
from problems.reading.pictures import stored_size
from problems.reading.sources import source_format
from scoresde.data.figures import write_map
from scoresde.data.images import write_image
from scoresde.errors import InputError
from scoresde.estimation.first_guess import first_guess
from scoresde.pipelines.cost import check_memory
from scoresde.pipelines.devices import kept_prior
from scoresde.pipelines.estimated_blur import UNKNOWN_BLURS, is_unknown
from scoresde.pipelines.inputs import read_input
from scoresde.pipelines.plan import Measurement, draw, make_plan
from scoresde.pipelines.restoration_report import recorded_warnings
from scoresde.pipelines.restore import restore
from scoresde.ui.choices import instant
from scoresde.ui.commands import MASK, OUT, named_call
from scoresde.ui.limits import Limits
from scoresde.ui.messages import (
    Arrived,
    Estimated,
    Event,
    Finished,
    Order,
    Refused,
    Searching,
    Working,
)
from solvers.posterior.records import Enough

__all__ = ["STOP", "perform", "serve"]

STOP = "stop"
"""Sent to the process: end with the draws that are finished."""

_EVERY = 0.3  # seconds between reports of progress

_Say = Callable[[Event], None]


class _Clock:
    """Decides when a job ends, in the callback of its progress."""

    def __init__(self, limits: Limits, say: _Say, stopped: Callable[[], bool]) -> None:
        self._start = self._told = time.monotonic()
        self._limits, self._say, self._stopped = limits, say, stopped
        self.ended = "all"
        self.searching: str | None = None  # what is not known yet

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def check(self) -> None:
        if self._stopped():
            self.ended = "stop"
        elif self.seconds > self._limits.seconds:
            self.ended = "time"
        if self.ended != "all":
            raise Enough

    def progress(self, fraction: float) -> None:
        if time.monotonic() - self._told > _EVERY:
            self._told = time.monotonic()
            told = Working(fraction) if self.searching is None else Searching(self.searching)
            self._say(told)
        if fraction < 1:  # a draw that is finished is not thrown away
            self.check()


def perform(order: Order, say: _Say, stopped: Callable[[], bool]) -> None:
    """Restore a picture: a point estimate first, then draws.

    Args:
        order: What to do.
        say: Called with each event; the last one is a :class:`Finished` or a :class:`Refused`.
        stopped: Whether to end with the draws that are finished.
    """
    clock = _Clock(order.limits, say, stopped)
    try:
        say(_perform(order, clock, say))
    except Enough:
        reason = "stopped" if clock.ended == "stop" else f"{order.limits.minutes:g} minutes passed"
        say(Refused(f"{reason} before the first draw was finished"))
    except InputError as error:
        say(Refused(_without_folder(str(error), order.folder)))


def _perform(order: Order, clock: _Clock, say: _Say) -> Finished:
    _check_stored_size(order)
    unknown = _unknown(order)
    if "blur" not in unknown:
        say(_first_answer(order, _measure(order), clock))
    clock.searching = " and ".join(unknown) or None
    draws: list[Tensor] = []

    def ready(measured: Measurement) -> None:
        clock.searching = None
        if "blur" in unknown:
            say(_first_answer(order, measured, clock))

    def arrived(some: Tensor) -> None:
        draws.extend(some.float().cpu())
        say(_views(torch.stack(draws), order))

    out = order.folder / OUT
    call = named_call(order.picture.name, order.problem, order.options, order.simulate)
    with recorded_warnings() as warned:
        result = restore(
            order.picture,
            order.problem,
            order.options,
            out,
            simulate=order.simulate,
            progress=clock.progress,
            ready=ready,
            arrived=arrived,
            named=call,
            prior=kept_prior(order.options.prior),
        )
    count = len(result.posterior.draws)
    call = replace(call, options=replace(call.options, samples=count))
    if not draws:  # of a solver that makes all of them together
        say(_views(result.posterior.draws[:, 0], order))
    return Finished(
        out,
        _archive(order, out),
        result.report,
        _sentences(result.report, tuple(warned)),
        call.command(),
        call.python(),
        clock.ended,
        clock.seconds,
    )


def _unknown(order: Order) -> list[str]:
    """What is estimated from the picture."""
    blur = any(is_unknown(name, order.problem) for name in UNKNOWN_BLURS)
    return ["blur"] * blur + ["noise"] * (order.options.sigma == "auto")


def _measure(order: Order) -> Measurement:
    """The measurement, with a guess of the noise where it is not known."""
    options = instant(order.options, order.problem.problem)
    given = read_input(
        order.picture, order.problem, simulate=order.simulate, sigma=options.stated_sigma
    )
    plan = make_plan(
        order.problem,
        options,
        size=given.size,
        simulate=order.simulate,
        seed=options.seed,
        file=given.file,
        source=order.picture.name,
    )
    size = plan.picture_size(given.x)
    _check_pixels("the restored picture", math.prod(size), order.limits)
    prior = kept_prior(options.prior)
    check_memory(size, prior.shape[0], order.options, prior.device)
    measured = plan.measure(given.x, prior, options.prior)
    if options.sigma != "auto":
        return measured
    noise = GaussianNoise(first_guess(measured.problem, measured.y))
    return replace(measured, problem=replace(measured.problem, noise=noise))


def _first_answer(order: Order, measured: Measurement, clock: _Clock) -> Estimated:
    """A point estimate, and the measurement as a picture."""
    options = instant(order.options, order.problem.problem)
    view = order.folder / "measurement.png"
    write_image(measured.problem.operator.preview(measured.y)[0], view)
    found = order.folder / "estimate.png"
    prior = kept_prior(options.prior)
    write_image(draw(prior, measured, options, lambda _: clock.check()).mean[0], found)
    return Estimated(found, view, clock.seconds)


def _check_stored_size(order: Order) -> None:
    """Before the picture is decoded, by what its head states."""
    try:
        size = stored_size(order.picture)
    except Exception as error:  # of any type, as documented
        reason = str(error).splitlines()[0] if isinstance(error, InputError) else "no picture"
        raise InputError(f"{order.picture.name} cannot be read: {reason}") from None
    if source_format(order.picture) is not None:  # its pages would pass the limits together
        raise InputError(
            f"{order.picture.name} has several pages, and one picture at a time is restored here; "
            "use scoresde restore, or choose a page"
        )
    _check_pixels("the picture", math.prod(size), order.limits)


def _check_pixels(what: str, pixels: int, limits: Limits) -> None:
    if pixels > limits.pixels:
        raise InputError(
            f"{what} has {pixels / 1e6:.2f} megapixels, and at most {limits.pixels / 1e6:.2f} are "
            "accepted here; crop it or scale it down"
        )


def _views(draws: Tensor, order: Order) -> Arrived:
    """Pictures of the draws so far (n, C, H, W)."""
    n, folder = len(draws), order.folder
    mean, one, std = (folder / f"{name}_{n}.png" for name in ("mean", "draw", "std"))
    write_image(draws.mean(0), mean)
    write_image(draws[-1], one)
    if n > 1:
        write_map(draws.std(0).mean(0), std)
    return Arrived(n, order.options.samples, mean, one, std if n > 1 else None)


def _archive(order: Order, out: Path) -> Path:
    """The results in a file, with what the command needs."""
    path = order.folder / f"{OUT}.zip"
    with zipfile.ZipFile(path, "w") as file:  # pictures are compressed already
        file.write(order.picture, order.picture.name)
        if order.problem.mask is not None:
            file.write(order.problem.mask, MASK)
        for one in sorted(out.iterdir()):
            file.write(one, f"{OUT}/{one.name}")
    return path


def _sentences(report: dict[str, Any], warned: tuple[str, ...]) -> tuple[str, ...]:
    """What to know before the result is used."""
    residual = [one["message"] for one in report["residual"]["warnings"]]
    return tuple(dict.fromkeys((*report["read"]["notes"], *warned, *residual)))


def _without_folder(text: str, folder: Path) -> str:
    return text.replace(f"{folder}/", "").replace(str(folder), "")


def serve(pipe: Connection, prior: str) -> None:
    """Perform orders until the pipe closes or sends None.

    Args:
        pipe: Gives orders and ``STOP``; takes events, first None when the process is ready.
        prior: Name of the prior to load beforehand.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server
    with contextlib.suppress(EOFError, BrokenPipeError):
        _warm_up(prior)
        pipe.send(None)
        while (order := pipe.recv()) is not None:
            if order == STOP:  # it came when the work was done
                continue
            perform(order, pipe.send, lambda: pipe.poll() and pipe.recv() == STOP)


def _warm_up(name: str) -> None:
    """Load the weights, and let the first evaluation be done with."""
    prior = kept_prior(name)
    x = torch.zeros(1, prior.shape[0], 64, 64, dtype=prior.dtype, device=prior.device)
    with torch.no_grad(), contextlib.suppress(ValueError):  # of a prior for one size only
        prior.denoise(x, 0.5 * (prior.sde.t_min + prior.sde.t_max))
