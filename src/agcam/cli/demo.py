"""`agcam demo`: what it does and prints."""

from __future__ import annotations

import argparse
import socket
import tempfile
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from agcam.cli.explained_files import Drawing
from agcam.cli.load_model import load_model
from agcam.errors import InputError
from agcam.explainers.find_vit import inspect_vit
from agcam.training.remote import is_remote
from agcam.visualization.photograph import Style


def run(options: argparse.Namespace) -> int:
    """Run `agcam demo` until it is interrupted."""
    if options.top < 1:
        raise InputError(f"--top must be at least 1, found {options.top}")
    style = Style(options.colormap, options.alpha, options.contour)
    style.check()
    if find_spec("gradio") is None:
        raise InputError("agcam demo needs gradio, which is not installed: pip install 'agcam[demo]'")
    with _listen(options.host, options.port) as listening, tempfile.TemporaryDirectory(prefix="agcam-demo-") as uploads:
        subject = load_model(options)
        inspect_vit(subject.model)
        from agcam.cli.demo_page import make_page  # loads Gradio, for a model that is there
        from agcam.cli.demo_server import serve

        page = make_page(subject, _name(options.checkpoint), options.top, Drawing(style), Path(uploads))
        Console(stderr=True, quiet=options.quiet).print(
            f"{_address(options.host, listening)} shows the page; Ctrl-C ends it", soft_wrap=True, highlight=False
        )
        serve(page, listening)
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """Open the port before the model is loaded, which may take a while.

    Raises:
        InputError: if it cannot be had.
    """
    if not 0 <= port < 2**16:
        raise InputError(f"--port must be between 0 and {2**16 - 1}, found {port}")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InputError(
            f"--host {host} --port {port}: {error.strerror or error}; choose another, --port 0 takes a free one"
        ) from error


def _name(checkpoint: Path) -> str:
    """Name a checkpoint without where it lies on this machine, which is nobody's business."""
    return checkpoint.as_posix() if is_remote(checkpoint) else checkpoint.resolve().name


def _address(host: str, listening: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
