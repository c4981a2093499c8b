"""A real MLflow server, as `mlflow server` starts it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from processes import free_port


@dataclass(frozen=True)
class Server:
    process: subprocess.Popen[bytes]
    uri: str

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def start_server(folder: Path) -> Server:
    """Start a server with its database and artifacts in `folder`, and wait until it answers."""
    port = free_port()
    # its job runner and telemetry have no part in this, and take seconds to start
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers=1", f"--port={port}"),
        *(f"--backend-store-uri=sqlite:///{folder}/mlflow.db", f"--artifacts-destination={folder}/artifacts"),
    ]
    with (folder / "printed").open("w") as printed:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=printed, stderr=printed, start_new_session=True
        )
    found, deadline = Server(process, f"http://127.0.0.1:{port}"), time.monotonic() + 150
    while not _answers(found.uri):
        if process.poll() is not None or time.monotonic() > deadline:
            found.kill()
            raise AssertionError((folder / "printed").read_text())
        time.sleep(0.2)
    return found


def _answers(uri: str) -> bool:
    try:
        urllib.request.urlopen(f"{uri}/health", timeout=5).close()
    except OSError:
        return False
    return True
