"""The page: one picture, what is wrong with it, one button."""

import html
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from scoresde.data.images import write_image
from scoresde.errors import InputError
from scoresde.pipelines.demo import SCENES, photograph
from scoresde.pipelines.settings import DEFAULT_SOLVER
from scoresde.priors.checkpoint import embedded_priors
from scoresde.ui.choices import BLURS, KINDS, Choices, grey_levels
from scoresde.ui.commands import MASK, safe_name
from scoresde.ui.jobs import Workers
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
from solvers.posterior.point import PointEstimator
from solvers.registry import SOLVERS, make_solver

__all__ = ["CSS", "JS", "THEME", "build_page"]

_FONT = ("system-ui", "sans-serif")
_MONO = ("ui-monospace", "monospace")

THEME = gr.themes.Base(primary_hue="teal", neutral_hue="slate", font=_FONT, font_mono=_MONO).set(
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_300",
    block_label_text_color="*neutral_700",
    block_label_text_color_dark="*neutral_200",
    block_title_text_color="*neutral_800",
    block_title_text_color_dark="*neutral_100",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
    button_primary_text_color="white",
)
"""Fonts of the visitor's system: nothing is loaded from elsewhere."""

CSS = (Path(__file__).parent / "page.css").read_text()

JS = (Path(__file__).parent / "page.js").read_text()

_CANVAS = 640  # pixels, the longest side of the picture that is painted on

_NOISE = {"noise": 0.2}  # on [-1, 1], where the noise is what is wrong
_LITTLE = 0.02

_INTRODUCTION = """# Restore a photograph
Choose a picture, say what is wrong with it, and press **Restore**. You get a first answer at once.
Then come several pictures that all explain yours; where they differ, the answer is not certain.
"""

_MEANING = (
    "<b>Average</b>: the best single guess so far. <b>One possibility</b>: a sharp picture that "
    "explains yours; there are others. <b>Uncertainty</b>: how much the possibilities differ; in "
    "bright places details are guessed, not seen."
)

_PAINT = "Paint over scratches, text, or whatever else is to be filled in."
_CHOOSE = "Choose a picture, then paint here over what is to be filled in."
_NOTHING = "Nothing has been restored yet."


@dataclass
class _Visitors:
    """The flags that stop the work of each visitor."""

    flags: dict[str, Flag] = field(default_factory=dict)

    def start(self, visitor: str) -> Flag:
        self.stop(visitor)
        self.flags[visitor] = Flag()
        return self.flags[visitor]

    def stop(self, visitor: str) -> None:
        if visitor in self.flags:
            self.flags.pop(visitor).set()


def build_page(workers: Workers, folder: Path) -> gr.Blocks:
    """Build the page.

    Args:
        workers: The processes that restore.
        folder: Folder for the files of jobs, and of the samples.

    Returns:
        The page, to be served by :func:`scoresde.ui.server.serve_page`.
    """
    visitors = _Visitors()
    priors = tuple(dict.fromkeys((workers.prior, *embedded_priors())))
    samples = _write_samples(folder)
    with gr.Blocks(title="scoresde", analytics_enabled=False, delete_cache=(60, 3600)) as page:
        gr.Markdown(_INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                controls = _controls(workers, priors, samples)
            with gr.Column(scale=3, min_width=320, elem_classes="results"):
                results = _results()
        _connect(page, controls, results, _Restorer(workers, visitors, priors, folder))
    return page


def _write_samples(folder: Path) -> dict[str, Path]:
    """Photographs that scikit-image ships, by name."""
    found = {}
    for name, _, _, corner in SCENES:
        found[name] = folder / "samples" / f"{name}.png"
        found[name].parent.mkdir(parents=True, exist_ok=True)
        write_image(photograph(name, corner)[0], found[name])
    return found


_Parts = dict[str, Any]


def _path(payload: Any) -> str | None:
    """The file as it was sent: Gradio would decode it to judge its format."""
    return None if payload is None else str(payload.path)


def _controls(workers: Workers, priors: tuple[str, ...], samples: dict[str, Path]) -> _Parts:
    limits = workers.limits
    made: _Parts = {}
    made["picture"] = gr.Image(
        label="Your picture",
        type="filepath",
        sources=["upload", "clipboard"],
        image_mode=None,
        height=240,
        buttons=[],
        elem_id="picture",
    )
    # of the instance: of a subclass Gradio writes an interface file beside this one
    made["picture"].preprocess = _path
    size = limits.pixels / 1e6
    unit = "megapixel" if size == 1 else "megapixels"
    most = f"At most {limits.bytes / 1e6:g} MB and {size:g} {unit}."
    gr.Markdown(f"{most} Or take a sample:", elem_classes="note")
    with gr.Row():
        titles = {"chelsea": "cat"}
        made["samples"] = {
            path: gr.Button(titles.get(name, name).capitalize(), size="sm", min_width=80)
            for name, path in samples.items()
        }
    made["kind"] = gr.Radio(
        [(text, name) for name, text in KINDS.items()],
        value="missing",
        label="What is wrong with it?",
        elem_id="kind",
    )
    made["simulate"] = gr.Checkbox(
        False,
        label="Nothing: damage it first, to see how well it comes back",
        elem_id="simulate",
    )
    with gr.Column(visible=True, elem_classes="part") as made["missing"]:
        made["paint"] = gr.Markdown(_CHOOSE, elem_classes="note")
        made["editor"] = gr.ImageEditor(
            label="Paint",
            show_label=False,
            visible=False,
            type="pil",
            format="png",
            sources=(),
            transforms=(),
            layers=False,
            brush=gr.Brush(colors=["#e0218a"], color_mode="fixed"),
            canvas_size=(_CANVAS, _CANVAS),
            height=400,
            buttons=[],
            elem_id="editor",
        )
        made["box"] = gr.Textbox(
            label="Or a rectangle, in pixels: top, left, height, width",
            placeholder="60, 40, 30, 50",
            max_length=60,
            elem_id="box",
        )
    with gr.Group(visible=False) as made["blur_group"]:
        made["blur"] = gr.Radio(
            [(text, name) for name, text in BLURS.items()], value="gaussian", label="Kind of blur"
        )
        made["width"] = gr.Slider(0.5, 20, 2.0, step=0.1, label="How far it is smeared, in pixels")
        made["unknown_width"] = gr.Checkbox(
            False, label="I do not know how far: estimate it", elem_id="unknown-width"
        )
        made["angle"] = gr.Slider(
            0, 179, 0, step=1, label="Direction of the movement, in degrees", visible=False
        )
    with gr.Group(visible=False) as made["small"]:
        made["scale"] = gr.Slider(2, 4, 2, step=1, label="Make it larger by this factor")
    with gr.Group(visible=False) as made["jpeg"]:
        made["from_file"] = gr.Checkbox(True, label="Read the compression from the JPEG file")
        made["quality"] = gr.Slider(
            1, 95, 10, step=1, label="Quality at which it was saved", visible=False
        )
    made["noise"] = gr.Slider(
        0.5,
        100,
        _slider_noise("missing"),
        step=0.1,
        label="Noise in the picture, in grey levels of 255",
        elem_id="noise",
    )
    made["unknown_noise"] = gr.Checkbox(
        False, label="I do not know the noise: estimate it", elem_id="unknown-noise"
    )
    with gr.Accordion("More settings", open=False):
        made["draws"] = gr.Slider(1, limits.draws, 8, step=1, label="Number of possibilities")
        made["solver"] = gr.Dropdown(
            list(SOLVERS), value=DEFAULT_SOLVER, label="Method (solver) of the possibilities"
        )
        made["steps"] = gr.Slider(0, limits.steps, 0, step=1, label="Steps (0: the method's own)")
        made["prior"] = gr.Dropdown(
            list(priors), value=workers.prior, label="Kind of pictures (prior)"
        )
        made["seed"] = gr.Number(0, label="Seed of the random numbers", precision=0, minimum=0)
    with gr.Row():
        made["restore"] = gr.Button("Restore", variant="primary", elem_id="restore", scale=3)
        made["stop"] = gr.Button("Stop", variant="stop", elem_id="stop", interactive=False)
    return made


def _slider_noise(kind: str) -> float:
    return round(grey_levels(_NOISE.get(kind, _LITTLE)), 1)


def _results() -> _Parts:
    made: _Parts = {"status": gr.HTML(_status(_NOTHING), elem_id="status")}
    picture: dict[str, Any] = {
        "interactive": False,
        "format": "png",
        "buttons": ["fullscreen"],
        "type": "pil",
    }
    picture |= {"height": 280, "elem_classes": "result"}
    with gr.Row(visible=False) as made["first"]:
        made["before"] = gr.Image(label="Before", elem_id="before", **picture)
        made["after"] = gr.Image(label="Restored", elem_id="after", **picture)
    with gr.Row(visible=False) as made["second"]:
        made["draw"] = gr.Image(label="One possibility", elem_id="draw", **picture)
        made["std"] = gr.Image(label="Uncertainty", elem_id="std", **picture)
    made["meaning"] = gr.HTML(f'<p class="note">{_MEANING}</p>', visible=False)
    made["warnings"] = gr.HTML("", elem_id="warnings")
    with gr.Column(visible=False, elem_id="downloads") as made["downloads"]:
        with gr.Row():
            for name, label in (
                ("mean", "Picture"),
                ("numbers", "Numbers"),
                ("report", "Report"),
                ("archive", "Everything"),
            ):
                made[name] = gr.DownloadButton(
                    f"{label} ↓", size="sm", min_width=90, elem_id=f"download-{name}"
                )
        with gr.Accordion("Repeat it without this page", open=False):
            gr.Markdown(
                "In the folder of *Everything*, which holds the picture too:", elem_classes="note"
            )
            made["command"] = gr.Code(
                language="shell",
                label="Command",
                interactive=False,
                buttons=["copy"],
                wrap_lines=True,
            )
            made["python"] = gr.Code(
                language="python",
                label="Python",
                interactive=False,
                buttons=["copy"],
                wrap_lines=True,
            )
    return made


_INPUTS = (
    *("picture", "kind", "simulate", "editor", "box", "blur", "width", "angle", "scale"),
    *("from_file", "quality", "noise", "draws", "solver", "steps", "prior", "seed"),
    *("unknown_width", "unknown_noise"),
)
_OUTPUTS = (
    *("status", "first", "before", "after", "second", "draw", "std", "meaning", "warnings"),
    *("downloads", "mean", "numbers", "report", "archive", "command", "python", "stop"),
)


def _connect(page: gr.Blocks, controls: _Parts, results: _Parts, restorer: "_Restorer") -> None:
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    kind, parts = controls["kind"], controls
    kind.change(
        _show_controls,
        [kind],
        [
            *(parts[name] for name in ("missing", "blur_group", "small", "jpeg", "noise")),
            parts["unknown_noise"],
        ],
        **hidden,
    )
    parts["blur"].change(
        _show_blur,
        parts["blur"],
        [parts["angle"], parts["unknown_width"], parts["width"]],
        **hidden,
    )
    parts["unknown_width"].change(
        _show_extent,
        [parts["unknown_width"], parts["blur"]],
        [parts["width"], parts["angle"]],
        **hidden,
    )
    parts["unknown_noise"].change(
        lambda unknown, kind: gr.update(visible=not unknown and kind != "jpeg"),
        [parts["unknown_noise"], kind],
        parts["noise"],
        **hidden,
    )
    parts["from_file"].change(
        lambda known: gr.update(visible=not known), parts["from_file"], parts["quality"], **hidden
    )
    parts["picture"].change(
        restorer.canvas,
        [parts["picture"]],
        [parts["editor"], parts["paint"], results["status"]],
        **hidden,
    )
    for path, button in controls["samples"].items():
        button.click(
            lambda path=path: (str(path), True, False),
            None,
            [parts["picture"], parts["simulate"], parts["from_file"]],
            **hidden,
        )
    everything = {**controls, **results}
    parts["restore"].click(
        restorer.restore,
        [controls[name] for name in _INPUTS],
        [everything[name] for name in _OUTPUTS],
        concurrency_limit=restorer.workers.limits.jobs,
        concurrency_id="restore",
        **hidden,
    )
    parts["stop"].click(restorer.stop, None, None, queue=False, **hidden)
    page.unload(restorer.leave)


def _show_controls(kind: str) -> list[Any]:
    shown = [gr.update(visible=kind == one) for one in ("missing", "blur", "small", "jpeg")]
    noise = gr.update(visible=kind != "jpeg", value=_slider_noise(kind))
    return [*shown, noise, gr.update(visible=kind != "jpeg", value=False)]


def _show_blur(blur: str) -> list[Any]:
    return [gr.update(visible=blur == "motion"), gr.update(value=False), gr.update(visible=True)]


def _show_extent(unknown: bool, blur: str) -> list[Any]:
    return [gr.update(visible=not unknown), gr.update(visible=not unknown and blur == "motion")]


@dataclass(frozen=True)
class _Restorer:
    """What the buttons do."""

    workers: Workers
    visitors: _Visitors
    priors: tuple[str, ...]
    folder: Path

    def canvas(self, picture: str | None) -> tuple[Any, str, str]:
        """Put a new picture under the brush."""
        none = gr.update(value=None, visible=False), _CHOOSE
        if picture is None:
            return *none, _status(_NOTHING)
        try:
            with Image.open(picture) as file:
                if file.width * file.height > self.workers.limits.pixels:
                    return *none, _status(
                        f"This picture has {file.width * file.height / 1e6:.1f} megapixels, and at "
                        f"most {self.workers.limits.pixels / 1e6:g} are accepted here.",
                        bad=True,
                    )
                shown = _upright(file)
        except Exception:  # Pillow raises errors of many types
            return *none, _status("This file cannot be read as a picture.", bad=True)
        shown.thumbnail((_CANVAS, _CANVAS))
        value = {"background": shown, "layers": [], "composite": None}
        return gr.update(value=value, visible=True), _PAINT, _status("Ready: press Restore.")

    def restore(self, request: gr.Request, *values: Any) -> Iterator[list[Any]]:
        """Restore the picture, and show what there is at each moment."""
        chosen = dict(zip(_INPUTS, values, strict=True))
        job = Path(tempfile.mkdtemp(prefix="job-", dir=self.folder))
        stop = self.visitors.start(str(request.session_hash))
        try:
            yield _updates(
                status=_status("Looking for a first answer …"),
                first=gr.update(visible=False),
                second=gr.update(visible=False),
                draw=None,
                std=None,
                meaning=gr.update(visible=False),
                warnings="",
                downloads=gr.update(visible=False),
                stop=gr.update(interactive=True),
            )
            order = self._order(chosen, job)
            last: Event | None = None
            for event in self.workers.run(order, stop):
                last = event
                yield _shown(event, order)
            assert isinstance(last, Finished | Refused)
        except InputError as error:
            yield _shown(Refused(str(error)), None)
        finally:
            shutil.rmtree(job, ignore_errors=True)

    def _order(self, chosen: dict[str, Any], job: Path) -> Order:
        if not chosen["picture"]:
            raise InputError("choose a picture first")
        given = Path(chosen["picture"])
        picture = job / safe_name(given.name)
        shutil.copyfile(given, picture)
        painted = None
        if chosen["kind"] == "missing" and not (chosen["box"] or "").strip():
            painted = _write_mask(chosen["editor"], picture, job / MASK)
        choices = Choices(
            kind=chosen["kind"],
            simulate=bool(chosen["simulate"]),
            mask=painted,
            box=chosen["box"] or "",
            blur=chosen["blur"],
            width=None if chosen["unknown_width"] else float(chosen["width"]),
            angle=float(chosen["angle"]),
            scale=float(chosen["scale"]),
            noise=None if chosen["unknown_noise"] else float(chosen["noise"]),
            quality=None if chosen["from_file"] and not chosen["simulate"] else chosen["quality"],
            prior=chosen["prior"],
            solver=chosen["solver"],
            steps=int(chosen["steps"]) or None,
            draws=int(chosen["draws"]),
            seed=int(chosen["seed"] or 0),
        )
        limits = self.workers.limits
        options = choices.options(limits, self.priors)
        return Order(picture, choices.problem(), options, choices.simulate, job, limits)

    def stop(self, request: gr.Request) -> None:
        """End with the draws that are finished."""
        self.visitors.stop(str(request.session_hash))

    def leave(self, request: gr.Request) -> None:
        """The visitor has closed the page."""
        self.visitors.stop(str(request.session_hash))


def _upright(file: Image.Image) -> Image.Image:
    from PIL import ImageOps

    return ImageOps.exif_transpose(file).convert("RGB")


def _write_mask(editor: dict[str, Any] | None, picture: Path, path: Path) -> Path:
    """White where the visitor has painted, of the size of the picture."""
    layers = (editor or {}).get("layers") or []
    try:
        with Image.open(picture) as file:
            size = _upright(file).size
    except Exception:  # Pillow raises errors of many types
        raise InputError(f"{picture.name} cannot be read as a picture") from None
    painted = np.zeros(size[::-1], bool)
    for layer in layers:
        if layer is not None:
            alpha = layer.convert("RGBA").getchannel("A").resize(size, Image.Resampling.BILINEAR)
            painted |= np.asarray(alpha) > 0
    if not painted.any():
        raise InputError("paint over the missing parts first, or type a rectangle")
    if painted.all():
        raise InputError("all of the picture is painted over, so that nothing is left to go by")
    Image.fromarray(np.where(painted, 255, 0).astype(np.uint8)).save(path)
    return path


def _status(text: str, bad: bool = False) -> str:
    kind = "bad" if bad else "good"
    return f'<p role="status" aria-live="polite" class="status {kind}">{html.escape(text)}</p>'


def _updates(**given: Any) -> list[Any]:
    return [given.get(name, gr.skip()) for name in _OUTPUTS]


def _open(path: Path) -> Image.Image:
    with Image.open(path) as file:
        file.load()
        return file


def _shown(event: Event, order: Order | None) -> list[Any]:
    """What changes on the page."""
    if isinstance(event, Working):
        assert order is not None
        return _updates(status=_status(f"Drawing possibilities: {event.fraction:.0%} …"))
    if isinstance(event, Searching):
        return _updates(status=_status(f"Estimating the {event.what} …"))
    if isinstance(event, Estimated):
        return _updates(
            status=_status(
                f"First answer after {event.seconds:.1f} s. Now come the possibilities …"
            ),
            first=gr.update(visible=True),
            before=_open(event.measurement),
            after=gr.update(value=_open(event.estimate), label="Restored: first answer"),
        )
    if isinstance(event, Arrived):
        single = order is not None and _gives_one_answer(order)
        label = "Restored" if single else f"Restored: average of {event.count}"
        return _updates(
            status=_status(f"{event.count} of {event.wanted} possibilities …"),
            after=gr.update(value=_open(event.mean), label=label),
            second=gr.update(visible=not single),
            draw=None if single else _open(event.draw),
            std=None if event.std is None else _open(event.std),
            meaning=gr.update(visible=not single),
        )
    if isinstance(event, Refused):
        return _updates(
            status=_status(f"{event.reason[:1].upper()}{event.reason[1:]}.", bad=True),
            stop=gr.update(interactive=False),
        )
    return _updates(
        status=_status(_finished(event)),
        warnings=_warning_list(event.warnings),
        downloads=gr.update(visible=True),
        mean=str(event.out / event.report["files"][0]),
        numbers=str(event.out / "report.json"),
        report=str(event.out / "report.html"),
        archive=str(event.archive),
        command=event.command,
        python=event.python,
        stop=gr.update(interactive=False),
    )


def _gives_one_answer(order: Order) -> bool:
    return isinstance(make_solver(order.options.solver), PointEstimator)


def _finished(event: Finished) -> str:
    count = event.report["samples"]
    ends = {"all": "Done", "stop": "Stopped", "time": "The time is up"}
    text = f"{ends[event.ended]}: {count} {'picture' if count == 1 else 'pictures'}"
    text += f" in {event.seconds:.0f} s."
    if "mean" in event.report:
        text += f" The average is at {event.report['mean']['psnr']:.1f} dB from the original"
        if "measurement" in event.report:
            text += f", the damaged picture at {event.report['measurement']['psnr']:.1f} dB"
        text += " (more is better)."
    return text + _estimates(event.report)


def _estimates(report: dict[str, Any]) -> str:
    """What was estimated, in the units of the page."""
    text = ""
    if "blur_estimate" in report:
        found = report["blur_estimate"]
        text += f" Blur: {found['values'][0]:.2f} ± {found['standard_error'][0]:.2f} pixels."
    if "sigma_estimate" in report:
        found = report["sigma_estimate"]
        value, error = (grey_levels(found[key][0]) for key in ("sigma", "standard_error"))
        text += f" Noise: {value:.1f} ± {error:.1f} grey levels."
    return text


def _warning_list(warnings: tuple[str, ...]) -> str:
    if not warnings:
        return ""
    lines = "".join(f"<li>{html.escape(one)}</li>" for one in warnings)
    return f'<div class="warnings"><b>Before you use it</b><ul>{lines}</ul></div>'
