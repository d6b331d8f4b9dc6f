"""Run a case in this process as a user would at a terminal, and judge what came of it."""

import contextlib
import io
import logging
import os
import re
import resource
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from scoresde.cli import main
from tests.odd_inputs.case import Case, Command, Outcome

__all__ = ["EXECUTED", "FAULTS", "Verdict", "run_case"]

FAULTS = {
    "EXECUTED": "reading a file ran code",
    "WRONG": "exit status 0 and wrong values",
    "SILENT": "exit status 0 where the input or option must be refused",
    "NEEDLESS": "refused where it must be read",
    "TRACEBACK": "an exception reaches the user",
    "SLOW": "it did not end in time",
    "STATUS": "an exit status other than 0 and 2",
    "LINES": "a refusal that is not exactly one line `scoresde: error: ...` on standard error",
    "UNNAMED": "a refusal that names neither the file nor the option",
    "LEFTOVER": "a refusal that left files",
    "NOISE": "raw warnings on standard error",
    "SETUP": "a command that prepares the case failed",
}
"""Verdicts that are faults, the worst first."""

EXECUTED = "executed"
"""Name of a file that the code in hostile pickles creates."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")  # as scoresde.files names them
_SECONDS = 25
_MEMORY = 3 << 30  # beyond what the process holds: a header that claims more must be refused first
# what Python shows by default: these are hidden
_HIDDEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


@dataclass(frozen=True)
class Verdict:
    """How a case ended.

    Args:
        word: RIGHT, REFUSED, PART (of a folder) or one of FAULTS.
        detail: The line of the refusal, or what is wrong.
    """

    word: str
    detail: str

    @property
    def fault(self) -> bool:
        """Whether this must be mended."""
        return self.word in FAULTS


class _TooSlow(BaseException):
    """Not an Exception, so that no handler takes it for a damaged file."""


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Bounded time and memory, where the system has them."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooSlow

    timed = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    statm = Path("/proc/self/statm")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if statm.exists():
        held = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + _MEMORY, hard))
    if timed:
        old = signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, _SECONDS)
    try:
        yield
    finally:
        if timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextlib.contextmanager
def _second_descriptor(text: list[str]) -> Iterator[None]:
    """What libraries in C write to the file descriptor of standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            text.append(file.read().decode(errors="replace"))


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"log: {record.getMessage()}")


def _run(command: Command, folder: Path) -> Outcome:
    """Run a command in a folder, since some defaults are relative paths."""
    out, err, raw, records = io.StringIO(), io.StringIO(), list[str](), _Records()
    status, exception = None, ""
    arguments, place = sys.argv, Path.cwd()
    with contextlib.ExitStack() as stack:
        shown = stack.enter_context(warnings.catch_warnings(record=True))
        warnings.simplefilter("always")
        for kind in _HIDDEN:
            warnings.simplefilter("ignore", kind)
        logging.getLogger().addHandler(records)
        stack.callback(logging.getLogger().removeHandler, records)
        stack.enter_context(_second_descriptor(raw))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        stack.enter_context(_limits())
        sys.argv = ["scoresde", *command]
        os.chdir(folder)
        try:
            main()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split())[:200]
            exception = f"{type(error).__name__}: {text} ({Path(where.filename).name})"
        finally:
            os.chdir(place)
            sys.argv = arguments
    heard = [f"{one.category.__name__}: {' '.join(str(one.message).split())}" for one in shown]
    heard += records.lines + "".join(raw).splitlines()
    return Outcome(status, out.getvalue(), err.getvalue(), exception, tuple(heard))


def _left(paths: tuple[Path, ...]) -> list[str]:
    """Names of what exists of these; of a folder its content."""
    found = []
    for path in paths:
        if path.is_dir():
            found += [str(one.relative_to(path.parent)) for one in path.rglob("*") if one.is_file()]
        elif path.exists():
            found.append(path.name)
    return sorted(found)


def _judge_refusal(case: Case, outcome: Outcome) -> Verdict:
    lines = outcome.stderr.splitlines()
    line = lines[0] if lines else ""
    if case.expect in ("right", "partly"):
        return Verdict("NEEDLESS", line)
    if len(lines) != 1 or not line.startswith("scoresde: error: ") or outcome.stdout.strip():
        return Verdict("LINES", f"{outcome.stderr!r}, standard output {outcome.stdout!r}"[:300])
    if outcome.noise:
        return Verdict("NOISE", f"{'; '.join(outcome.noise)[:200]}; then {line}")
    if left := _left(case.outputs):
        return Verdict("LEFTOVER", f"{', '.join(left)}; {line}")
    if case.names and not any(name.lower() in line.lower() for name in case.names):
        return Verdict("UNNAMED", f"none of {', '.join(case.names)} in: {line}")
    return Verdict("REFUSED", line)


def _wrong(case: Case, outcome: Outcome) -> str | None:
    """What is wrong with the values; a result that cannot be read is wrong, too."""
    try:
        return case.check(outcome)
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"the result cannot be read: {type(error).__name__}: {error}"


def _judge_part(case: Case, outcome: Outcome) -> Verdict:
    """A run over a folder of which some pictures failed, each in a line of standard error."""
    lines = outcome.stderr.splitlines()
    if not lines or not all(one.startswith("failed: ") for one in lines):
        return Verdict("LINES", f"{outcome.stderr!r}"[:300])
    if outcome.noise:
        return Verdict("NOISE", "; ".join(outcome.noise)[:300])
    if not all(any(name in one for name in case.names) for one in lines):
        return Verdict("UNNAMED", f"none of {', '.join(case.names)} in: {lines[0]}")
    if wrong := _wrong(case, outcome):
        return Verdict("WRONG", wrong)
    return Verdict("PART", lines[0])


def _judge(case: Case, outcome: Outcome) -> Verdict:
    if outcome.exception.startswith("_TooSlow"):
        return Verdict("SLOW", f"not done after {_SECONDS} s")
    if outcome.exception or "Traceback" in outcome.stderr:
        return Verdict("TRACEBACK", outcome.exception or outcome.stderr.splitlines()[-1])
    if outcome.status == 3 and case.expect == "partly":
        return _judge_part(case, outcome)
    if outcome.status == 2:
        return _judge_refusal(case, outcome)
    if outcome.status != 0:
        return Verdict("STATUS", f"{outcome.status}: {outcome.stderr.strip()[:200]}")
    if case.expect in ("refused", "partly"):
        return Verdict("SILENT", "exit status 0")
    if wrong := _wrong(case, outcome):
        return Verdict("WRONG", wrong)
    others = [one for one in outcome.stderr.splitlines() if not one.startswith("scoresde: ")]
    if outcome.noise or others:
        return Verdict("NOISE", "; ".join([*outcome.noise, *others])[:300])
    return Verdict("RIGHT", "")


def run_case(case: Case, folder: Path) -> Verdict:
    """Run the commands of a case and judge the last of them.

    Args:
        case: The case, whose files are written.
        folder: Folder in which the commands run.

    Returns:
        The verdict.
    """
    for command in case.before:
        first = _run(command, folder)
        if first.status != 0:
            text = first.exception or first.stderr
            return Verdict("SETUP", f"{' '.join(command)}: {text}"[:300])
    verdict = _judge(case, _run(case.command, folder))
    if (folder / EXECUTED).exists():
        return Verdict("EXECUTED", f"the code of a pickle ran; then {verdict.detail}"[:300])
    halves = [one.name for one in folder.rglob(".*") if _TEMPORARY.fullmatch(one.name)]
    if halves and not verdict.fault:
        return Verdict("LEFTOVER", f"temporary files {', '.join(halves)}")
    return verdict
