"""The page of `agcam demo`: a photograph, its most probable classes, and where the model looks."""

from __future__ import annotations

import base64
import html
import io
import os
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from agcam.cli.explained_files import Drawing, draw_overlays, encode_overlay, say_seen_part
from agcam.console.one_line import describe, show_traceback
from agcam.data.photographs import Photograph, PhotographMaker
from agcam.errors import DataError, InputError
from agcam.explainers.registry import find_method, methods
from agcam.io.images import read_image
from agcam.training.explain_batch import Request, explain_batch
from agcam.training.explain_files import ExplainedPhotograph, explained
from agcam.training.loaded import LoadedModel
from agcam.visualization.overlay import is_signed

FIRST = "agcam"
_FORGOTTEN = (60, 600)  # seconds: how often it is looked for uploads that nobody took, and how old these are then
_ONE_AT_A_TIME = {"concurrency_id": "explain", "concurrency_limit": 1}  # memory for one is enough


@dataclass(frozen=True, eq=False)
class Seen:
    """The photograph of a session, in memory alone.

    Attributes:
        photograph: as the model takes it, with the picture to draw on.
        found: what was found; None where the method could not explain it.
    """

    photograph: Photograph
    found: ExplainedPhotograph | None = None


@dataclass(frozen=True, eq=False)
class Demo:
    """What a page needs to explain.

    Attributes:
        subject: the model and what it needs.
        top: how many of the most probable classes are explained.
        drawing: how overlays are drawn.
        uploads: folder of photographs that are on their way.
    """

    subject: LoadedModel
    top: int
    drawing: Drawing
    uploads: Path

    def take(self, upload: Path) -> Seen:
        """Read a photograph, and remove its file whether it can be read or not.

        Raises:
            DataError: if it cannot be read.
        """
        if not upload.resolve().is_relative_to(self.uploads.resolve()):  # nothing else is ever removed
            raise DataError(f"{upload.name}: not among the uploads")
        try:
            content = upload.read_bytes()
        except FileNotFoundError:  # the same photograph was dropped twice, and the first one to be read removed it
            raise DataError(f"{upload.name}: the upload is gone; drop it again") from None
        finally:
            upload.unlink(missing_ok=True)
            with suppress(OSError):
                upload.parent.rmdir()  # whose name is the photograph's hash
        make = PhotographMaker(self.subject.input_config, self.drawing.max_side)
        return Seen(make(Path(upload.name), read_image(upload.name, content)))

    def explain(self, seen: Seen, method: str) -> Seen:
        """Explain the most probable classes of a photograph.

        Raises:
            AgcamError: if the method cannot explain the model.
        """
        if method not in methods():  # "my_package.module:function" is for those at the command line
            raise InputError(f"unknown method {method!r}; known are {', '.join(methods())}")
        device = next(self.subject.model.parameters()).device
        explanation = explain_batch(self.subject, seen.photograph.image[None].to(device), Request(method, {}, self.top))
        (found,) = explained(self.subject, explanation, [seen.photograph.path])
        return Seen(seen.photograph, found)

    def draw(self, seen: Seen, target: int) -> bytes:
        """Draw the heatmap of a class over the photograph, as `agcam images` does; return the JPEG."""
        picture, found = seen.photograph.picture, seen.found
        assert picture is not None  # it was read for drawing
        assert found is not None  # there are no classes to choose from otherwise
        heatmap = found.placed[list(found.targets).index(target)]
        (overlay,) = draw_overlays(picture, [heatmap], self.subject.input_config, self.drawing.style)
        file = io.BytesIO()
        encode_overlay(overlay, file, self.drawing.overlays)
        return file.getvalue()


def make_page(subject: LoadedModel, name: str, top: int, drawing: Drawing, uploads: Path) -> Any:
    """Make the page.

    Args:
        subject: the model and what it needs.
        name: what the page calls it.
        top: how many of the most probable classes are explained.
        drawing: how overlays are drawn.
        uploads: folder of photographs that are on their way.

    Returns:
        A `gradio.Blocks`.
    """
    # Gradio reads these where it is imported and wherever a component is made
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(uploads)}
    gr: Any = import_module("gradio")
    demo = Demo(subject, top, drawing, uploads)

    def show(seen: Seen | None, method: str, target: int | None = None) -> tuple[Seen | None, Any, str]:
        """Return what is remembered, the classes and the overlay."""
        if seen is None:
            return None, gr.update(visible=False), ""
        try:
            seen = demo.explain(seen, method)
            assert seen.found is not None
            target = seen.found.targets[0] if target is None else target
            return seen, _classes(gr, seen.found, target), _figure(demo, seen, target, method)
        except Exception as error:
            return Seen(seen.photograph), gr.update(visible=False, choices=[], value=None), _problem(error)

    def on_photograph(upload: dict[str, Any] | None, method: str) -> tuple[None, Seen | None, Any, str]:
        try:
            seen = None if upload is None else demo.take(Path(upload["path"]))
        except Exception as error:
            return None, None, gr.update(visible=False, choices=[], value=None), _problem(error)
        return None, *show(seen, method)

    def on_class(seen: Seen | None, target: int | None, method: str) -> str:
        return "" if seen is None or seen.found is None or target is None else _figure(demo, seen, target, method)

    with gr.Blocks(title=f"agcam demo: {name}", analytics_enabled=False, delete_cache=_FORGOTTEN) as page:
        remembered = gr.State(None)
        gr.HTML(_about(subject, name), elem_id="about")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                # an image component would serve the file again, which is to be gone by then
                upload = gr.File(label="Photograph", elem_id="photograph", height=130)
                method = gr.Dropdown(_methods(), value=FIRST, label="Method", elem_id="method")
                classes = gr.Radio([], label="Most probable classes", visible=False, elem_id="classes")
            with gr.Column(scale=3, min_width=300):
                shown = gr.HTML("", elem_id="where")
        upload.async_move_resource_to_block_cache = _stay
        upload.upload(
            on_photograph,
            [upload, method],
            [upload, remembered, classes, shown],
            api_name="explain",
            preprocess=False,  # which leaves an empty file for each upload
            **_ONE_AT_A_TIME,
        )
        method.input(
            show, [remembered, method, classes], [remembered, classes, shown], api_name="method", **_ONE_AT_A_TIME
        )
        classes.input(on_class, [remembered, classes, method], shown, api_name="class")
    return page


async def _stay(path: str) -> str:
    """Leave an upload where it is; Gradio would fetch an address that a program sends in place of one."""
    return path


def _methods() -> list[tuple[str, str]]:
    return [(f"{name} (control)" if find_method(name).control else name, name) for name in methods()]


def _classes(gr: Any, found: ExplainedPhotograph, target: int) -> Any:
    rows = zip(found.classes, found.probabilities, found.targets, strict=True)
    choices = [(f"{name} · {100 * probability:.2f} %", index) for name, probability, index in rows]
    return gr.update(choices=choices, value=target, visible=True)


def _figure(demo: Demo, seen: Seen, target: int, method: str) -> str:
    assert seen.found is not None
    spec, row = find_method(method), list(seen.found.targets).index(target)
    name = html.escape(seen.found.classes[row])
    signed = " Red speaks for the class, blue against it." if is_signed(seen.found.placed[row]) else ""
    picture = base64.b64encode(demo.draw(seen, target)).decode()
    return (
        f'<figure><img src="data:image/jpeg;base64,{picture}" alt="Where the model looks for {name}">'
        f"<figcaption>Where the model looks for <b>{name}</b> in {html.escape(str(seen.photograph.path))}. "
        f"{html.escape(spec.name)}: {html.escape(spec.help)}{signed}</figcaption></figure>"
    )


def _problem(error: Exception) -> str:
    show_traceback(error)
    return f'<p class="problem" role="alert">{html.escape(describe(error)[0])}</p>'


def _about(subject: LoadedModel, name: str) -> str:
    kind = "Each class has a probability of its own. " if subject.multilabel else ""
    seen = say_seen_part(subject.input_config)
    seen = f"{seen[0].upper()}{seen[1:]}." if seen else ""
    return (
        f"<h1>Where does it look?</h1><p>{html.escape(name)}, {len(subject.class_names)} classes. {kind}{seen} "
        "Photographs stay on the machine that serves this page and are not kept.</p>"
    )
