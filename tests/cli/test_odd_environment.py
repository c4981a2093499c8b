"""Variables that launchers and clusters set, and that are odd, are named in one line."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from last_line import DDP, ELASTIC, FIT, MEETING, the_error
from processes import free_port, start


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "x"}, "SLURM_NTASKS is 4 and SLURM_NTASKS_PER_NODE is not set"),
        (
            ELASTIC | MEETING | {"MASTER_PORT": "abc", "WORLD_SIZE": "1"},
            "variable MASTER_PORT is 'abc', expected a whole",
        ),
        (
            ELASTIC | MEETING | {"MASTER_PORT": "1", "WORLD_SIZE": ""},
            "variable WORLD_SIZE is '', expected a whole number",
        ),
        (ELASTIC | MEETING | {"MASTER_PORT": "1", "WORLD_SIZE": "2"}, "does not match the world size (2)"),
        ({"LOCAL_RANK": "x"}, "variable LOCAL_RANK is 'x', expected a whole number"),
    ],
)
def test_a_variable_of_the_environment_that_is_odd_is_named(
    environment: dict[str, str], said: str, tmp_path: Path
) -> None:
    run = start([*FIT, *DDP, f"--trainer.default_root_dir={tmp_path}"], tmp_path / "out", environment)
    assert run.wait() == 2
    assert said in the_error(run.printed)


def test_a_variable_that_lightning_reads_on_import_is_named(tmp_path: Path) -> None:
    run = start(["fit"], tmp_path / "out", {"RANK": ""}, "agcam.cli.main", before=_begin_anew)
    assert run.wait() == 2
    assert the_error(run.printed).startswith("the environment variable RANK is '', expected a whole number")


def test_a_world_size_that_nobody_needs_hides_no_error(tmp_path: Path) -> None:
    run = start([*FIT, "--data.train_size=0"], tmp_path / "out", {"WORLD_SIZE": ""})
    assert run.wait() == 2
    assert the_error(run.printed) == "data.train_size must be a number of images, at least 1, found 0"


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        port = str(taken.getsockname()[1])
        environment = ELASTIC | MEETING | {"MASTER_PORT": port, "WORLD_SIZE": "1"}
        run = start([*FIT, *DDP, f"--trainer.default_root_dir={tmp_path}"], tmp_path / "out", environment)
        assert run.wait() == 2
    assert the_error(run.printed).startswith(f"port {port} is taken by another process; set MASTER_PORT to a free one")


def _begin_anew() -> None:
    """Forget what was imported, as in a process that has just begun."""
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("agcam", "lightning", "lightning_utilities")
    ]:
        del sys.modules[name]
