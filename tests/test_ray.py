"""Explaining on a real Ray cluster on this machine, by two workers: the rows of the plain run, whoever is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from agcam.cli.explain import main
from benchmark.small_benchmarks import write_checkpoint
from bulk.many_photos import arguments, count_done, manifest, picture, rows, write_photos

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("ckpt") / "model.ckpt")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = pytest.importorskip("ray") if os.environ.get("CI") != "true" else __import__("ray")
    os.environ.update({"RAY_worker_niceness": "0"})  # else workers wait for every other process
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield ray  # two workers, and the steps before them
    ray.shutdown()


def kill_an_actor(out: Path, killed: list[int]) -> None:
    """Kill -9 one of the workers that explain, once some shards are done."""
    while count_done(out) < 3:
        time.sleep(0.01)
    actors = [child for child in psutil.Process().children(recursive=True) if "MapWorker" in " ".join(child.cmdline())]
    killed.append(actors[0].pid)
    os.kill(actors[0].pid, signal.SIGKILL)


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_loses_and_doubles_nothing(checkpoint: Path, tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "photos", 120), tmp_path / "out"
    (out / "shards").mkdir(parents=True)
    killed: list[int] = []
    killer = threading.Thread(target=kill_an_actor, args=(out, killed), daemon=True)
    killer.start()
    assert main(arguments(checkpoint, photos, out, "--shard-size", 2, "--engine", "ray")) == 0
    assert killed
    assert main(arguments(checkpoint, photos, tmp_path / "plain", "--shard-size", 2)) == 0
    assert rows(out) == rows(tmp_path / "plain")
    assert manifest(out)["complete"] == manifest(tmp_path / "plain")["complete"]
    assert len(rows(out)) == 120


@pytest.mark.usefixtures("cluster")
def test_what_is_wrong_is_one_line(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos", 4)
    (photos / "001.png").write_bytes(b"")
    args = arguments(checkpoint, photos, tmp_path / "out", "--engine", "ray", "--shard-size", "2")
    assert main([*args, "--max-errors", "0"]) == 2
    assert "1 images failed, more than --max-errors 0" in capsys.readouterr().err
    assert main([*args, "--overlays", "jpeg"]) == 2
    assert "--overlays does not go with --engine ray" in capsys.readouterr().err
    assert main(arguments(checkpoint, "photos", tmp_path / "out", "--engine", "ray")) == 2
    assert "photos: with --engine ray paths must be absolute" in capsys.readouterr().err


def test_a_data_set_is_explained(cluster: Any, checkpoint: Path, tmp_path: Path) -> None:
    import ray.data

    from agcam.ray import explain_dataset

    photos = write_photos(tmp_path / "photos", 6)
    assert main(arguments(checkpoint, photos, tmp_path / "out")) == 0
    expected = rows(tmp_path / "out")
    paths = ray.data.from_items([{"id": n, "path": row["name"]} for n, row in enumerate(expected)])
    bytes_of = ray.data.from_items([{"id": n, "image": picture(n)} for n in range(6)])
    arrays = ray.data.read_images(str(photos), include_paths=True, size=(30, 50), mode="RGB")
    for dataset, column in ((paths, "path"), (bytes_of, "image")):
        found = explain_dataset(dataset, checkpoint, column=column, batch_size=4).take_all()
        found.sort(key=lambda row: row["id"])
        assert ["path" in row for row in found] == [column == "path"] * 6
        for row, wanted in zip(found, expected, strict=True):
            assert row["error"] is None
            assert list(row["classes"]) == wanted["classes"]
            assert list(row["shape"]) == [3, 4, 4]
            maps = [np.array(maps, np.float16) for maps in (row["maps"], wanted["maps"])]
            np.testing.assert_allclose(*maps, rtol=2e-3, atol=1e-4)
    for row in explain_dataset(arrays, checkpoint, column="image", batch_size=4).take_all():
        assert row["error"] is None
        assert (row["width"], row["height"]) == (50, 30)
        assert len(row["maps"]) == 48
