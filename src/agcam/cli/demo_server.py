"""Serve the page of `agcam demo`, which may load nothing from elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any

_MAX_UPLOAD = 300_000_000
"""Bytes; a PNG of the largest picture that is read can take so many."""
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load: what this server has."""
_SECONDS_TO_END = 2  # open pages keep a connection

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


def serve(page: Any, listening: socket.socket) -> None:
    """Serve a page of Gradio on a socket until a signal ends it.

    Gradio's own `launch` would read shares and tunnels from the environment and look for its server by HTTP.
    """
    gradio, fastapi, uvicorn = (import_module(name) for name in ("gradio", "fastapi", "uvicorn"))
    outer = fastapi.FastAPI(openapi_url=None)  # whose documentation would load from elsewhere
    app = gradio.mount_gradio_app(
        outer,
        page,
        "/",
        allowed_paths=[],
        footer_links=[],
        max_file_size=_MAX_UPLOAD,
        mcp_server=False,
        pwa=False,
        run_history=False,
        show_error=False,
        ssr_mode=False,
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=_CSS,
    )
    config = uvicorn.Config(
        _with_policy(app), access_log=False, log_level="warning", timeout_graceful_shutdown=_SECONDS_TO_END
    )
    uvicorn.Server(config).run(sockets=[listening])


def _with_policy(app: _App) -> _App:
    async def served(scope: _Message, receive: _Receive, send: _Send) -> None:
        async def send_with(message: _Message) -> None:
            if message["type"] == "http.response.start":
                added = {"content-security-policy": _POLICY, "referrer-policy": "no-referrer"}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in added.items()),
                ]
            await send(message)

        await app(scope, receive, send_with)

    return served


_CSS = """
.gradio-container { max-width: 1200px !important; margin: auto; }
#where figure { margin: 0; }
#where img { display: block; max-width: 100%; max-height: 68vh; margin: auto; border-radius: 6px; }
#where figcaption { margin-top: .6rem; overflow-wrap: anywhere; }
#where .problem { padding: 1rem; border-left: 4px solid #c0392b; overflow-wrap: anywhere; }
#about { overflow-wrap: anywhere; }
@media (min-width: 700px) { #classes .wrap { flex-direction: column; } }
#classes label { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
"""
