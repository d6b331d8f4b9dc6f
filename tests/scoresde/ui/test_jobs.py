"""Processes that restore: what happens when a visitor stops, leaves, or a process dies."""

import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event as Flag

import pytest

from scoresde.data.images import write_image
from scoresde.pipelines.demo import photograph
from scoresde.ui.choices import Choices
from scoresde.ui.jobs import Workers
from scoresde.ui.limits import Limits
from scoresde.ui.messages import Arrived, Estimated, Finished, Order, Refused

pytestmark = pytest.mark.slow

LIMITS = Limits(jobs=1)


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(LIMITS) as made:
        yield made


@pytest.fixture
def order(tmp_path: Path) -> Order:
    write_image(photograph("astronaut", (0, 130))[0, :, 60:92, 40:80], tmp_path / "photo.png")
    choices = Choices("noise", solver="diffpir", steps=40, draws=32)
    options = choices.options(LIMITS, ("natural",))
    return Order(tmp_path / "photo.png", choices.problem(), options, False, tmp_path, LIMITS)


def test_stop_keeps_the_draws_that_are_finished(workers: Workers, order: Order) -> None:
    stop, seen = Flag(), 0
    for event in workers.run(order, stop):
        if isinstance(event, Arrived):
            seen = event.count
            stop.set()
    assert isinstance(event, Finished) and event.ended == "stop"
    # those that were finished before the word arrived
    assert seen == event.report["samples"] < 32
    assert len(list(event.out.glob("draw_*.png"))) == seen


def test_a_stop_that_comes_too_late_does_not_touch_the_next_visitor(
    workers: Workers, order: Order
) -> None:
    stop = Flag()
    said = []
    for event in workers.run(order, stop):
        said.append(event)
        stop.set()  # at the first answer: there is no draw
    assert isinstance(said[-1], Refused)
    first = next(iter(workers.run(order, Flag())))
    assert isinstance(first, Estimated)


def test_work_ends_when_its_visitor_leaves(workers: Workers, order: Order) -> None:
    running = workers.run(order, Flag())
    assert isinstance(next(running), Estimated)
    (before,) = (one.process.pid for one in workers._all)
    running.close()  # type: ignore[attr-defined]
    (after,) = (one.process for one in workers._all)
    assert after.pid != before and after.is_alive()
    assert isinstance(next(workers.run(order, Flag())), Estimated)


def test_a_process_that_dies_costs_one_restoration(workers: Workers, order: Order) -> None:
    running = workers.run(order, Flag())
    assert isinstance(next(running), Estimated)
    (worker,) = workers._all
    worker.process.kill()
    *_, last = running
    assert isinstance(last, Refused) and "has ended" in last.reason
    assert isinstance(next(workers.run(order, Flag())), Estimated)


def test_all_processes_end_with_the_server() -> None:
    with Workers(Limits(jobs=2)) as made:
        processes = [one.process for one in made._all]
        assert len(processes) == 2 and all(one.is_alive() for one in processes)
    end = time.monotonic() + 5
    while any(one.is_alive() for one in processes):
        assert time.monotonic() < end
