"""`agcam images --format parquet`: the rows of the other mode, every image once, whatever is killed."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image
from pyarrow import parquet

from agcam.cli.explain import main
from benchmark.small_benchmarks import write_checkpoint
from bulk.many_photos import arguments, count_done, manifest, rows, write_photos
from processes import start


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("ckpt") / "model.ckpt")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos") / "of", 7)


def facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(parquet.read_metadata(path).metadata[b"agcam"])
    return found


@pytest.fixture(scope="module")
def whole(checkpoint: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All photos in shards of four, without an interruption."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert main(arguments(checkpoint, photos, output, "--shard-size", 4)) == 0
    return output


def test_rows_are_what_the_other_mode_writes(checkpoint: Path, photos: Path, whole: Path, tmp_path: Path) -> None:
    plain = ["images", "--device", "cpu", "--checkpoint", checkpoint, "--input", photos, "--output", tmp_path / "out"]
    assert main([*map(str, plain), "--quiet", "--batch-size", "4"]) == 0
    images = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    found = rows(whole)
    assert [row["name"] for row in found] == [image["image"] for image in images]
    for row, image in zip(found, images, strict=True):
        raw = np.load(tmp_path / "out" / image["heatmaps"])
        assert [row["width"], row["height"]] == image["size"]
        assert row["classes"] == raw["targets"].tolist()
        assert row["probabilities"] == pytest.approx([found["probability"] for found in image["classes"]], rel=1e-6)
        assert row["error"] is None
        maps = np.array(row["maps"], np.float16).reshape(3, 4, 4)
        assert np.array_equal(maps, raw["heatmaps"].astype(np.float16))


def test_files_and_manifest_say_what_is_in_them(checkpoint: Path, whole: Path) -> None:
    one, other = sorted((whole / "shards").iterdir())
    assert [facts(one)[name] for name in ("number", "shape", "rows", "errors")] == [0, [3, 4, 4], 4, 0]
    assert [facts(other)[name] for name in ("number", "rows")] == [1, 3]
    assert facts(one)["image_size"] == facts(one)["extent"] == [32, 32]
    found = manifest(whole)
    assert found["complete"] == {"shards": 2, "images": 7, "errors": 0}
    assert (found["settings"]["--method"], found["settings"]["--top"]) == ("agcam", 3)
    assert len(found["settings"]["weights"]) == 64
    assert len(found["class_names"]) == 8
    assert found["about"]["weights"].endswith("model.ckpt")
    assert {"agcam", "torch", "timm"} <= found["about"]["versions"].keys()
    assert sorted(path.name for path in whole.iterdir()) == [".claims", "manifest.json", "shards"]


def test_archives_and_addresses_give_the_rows_of_files(
    checkpoint: Path, photos: Path, whole: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        for path in sorted(photos.iterdir()):
            archive.add(path, path.name)
            label = tarfile.TarInfo(f"{path.stem}.cls")
            archive.addfile(label, io.BytesIO())
    memory = fsspec.filesystem("memory")
    for path in photos.iterdir():
        memory.pipe_file(f"/bucket/{path.name}", path.read_bytes())
    expected = [{**row, "name": Path(row["name"]).name} for row in rows(whole)]
    for name, source in (("tar", tmp_path / "some.tar"), ("memory", "memory://bucket")):
        assert main(arguments(checkpoint, source, tmp_path / name, "--shard-size", 4)) == 0
        found = rows(tmp_path / name)
        assert found[0]["name"] == {"tar": f"{source}/000.png", "memory": "memory:///bucket/000.png"}[name]
        assert [{**row, "name": Path(row["name"]).name} for row in found] == expected
    memory.rm("/bucket", recursive=True)


def test_s3_is_read(checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import s3fs
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        bucket = s3fs.S3FileSystem(skip_instance_cache=True)
        bucket.mkdir("birds")
        for path in sorted(photos.iterdir())[:3]:
            bucket.put_file(str(path), f"birds/of/{path.name}")
        (tmp_path / "list.txt").write_text("s3://birds/of/002.png\ns3://birds/of/none.png\n")
        assert main(arguments(checkpoint, "s3://birds/of", tmp_path / "walked")) == 0
        assert main(arguments(checkpoint, tmp_path / "list.txt", tmp_path / "listed")) == 0
    finally:
        server.stop()
    names = [row["name"] for row in rows(tmp_path / "walked")]
    assert names == [f"s3://birds/of/00{number}.png" for number in range(3)]
    read, missing = rows(tmp_path / "listed")
    assert read["maps"] == rows(tmp_path / "walked")[2]["maps"]
    assert missing["error"] == "s3://birds/of/none.png: no such file or folder"


def test_an_image_that_fails_costs_a_row(checkpoint: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 3)
    (photos / "001.png").write_bytes(b"no image")
    (tmp_path / "list.csv").write_text("path\nphotos/000.png\nphotos/001.png\nphotos/none.png\nphotos/002.png\n")
    assert main(arguments(checkpoint, tmp_path / "list.csv", tmp_path / "out", "--batch-size", 2)) == 0
    found = rows(tmp_path / "out")
    assert [row["name"][7:] for row in found] == ["000.png", "001.png", "none.png", "002.png"]
    assert "not a readable image" in found[1]["error"]
    assert "no such image" in found[2]["error"]
    assert found[1]["classes"] is found[1]["maps"] is found[1]["width"] is None
    assert [row["error"] is None for row in found] == [len(row["maps"] or ()) == 48 for row in found]
    assert manifest(tmp_path / "out")["complete"] == {"shards": 1, "images": 4, "errors": 2}


def test_a_damaged_archive_costs_a_row(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "whole.tar", "w") as archive:
        for path in sorted(photos.iterdir()):
            archive.add(path, path.name)
    content = (tmp_path / "whole.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[: len(content) * 6 // 10])
    assert main(arguments(checkpoint, tmp_path / "cut.tar", tmp_path / "out")) == 0
    *images, last = rows(tmp_path / "out")
    assert 1 < len(images) < 7
    assert (last["name"], last["maps"]) == (str(tmp_path / "cut.tar"), None)
    assert "what follows in the archive is missing" in last["error"]


def test_too_many_that_fail_stop_the_run(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos", 6)
    for number in (1, 4, 5):
        (photos / f"00{number}.png").write_bytes(b"")
    args = arguments(checkpoint, photos, tmp_path / "out", "--shard-size", 2, "--batch-size", 2)
    for _ in range(2):  # what an earlier call found counts, too
        assert main([*args, "--max-errors", "1"]) == 2
        error = capsys.readouterr().err
        assert "2 images failed, more than --max-errors 1, the last: " in error
        assert "00" in error
    assert main([*args, "--max-errors", "3"]) == 0
    assert manifest(tmp_path / "out")["complete"] == {"shards": 3, "images": 6, "errors": 3}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--top", 2], "--top 3, not 2"),
        (["--method", "rollout"], "--method agcam, not rollout"),
        (["--shard-size", 5], "--shard-size 4, not 5"),
        (["--precision", "bf16"], "--precision null, not bf16"),
        (["--overlays", "png"], "--overlays null, not png"),
    ],
)
def test_other_settings_are_refused(
    checkpoint: Path, photos: Path, whole: Path, more: list[object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (whole / "manifest.json").read_bytes()
    assert main(arguments(checkpoint, photos, whole, "--shard-size", 4, *more)) == 2
    assert f"its photographs were explained with {said}" in capsys.readouterr().err
    assert (whole / "manifest.json").read_bytes() == before


def test_other_weights_images_and_formats_are_refused(
    checkpoint: Path, photos: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_checkpoint(tmp_path / "other.ckpt", seed=5)
    assert main(arguments(other, photos, whole, "--shard-size", 4)) == 2
    assert "explained with weights " in capsys.readouterr().err
    assert main(arguments(checkpoint, photos / "003.png", whole, "--shard-size", 4)) == 2
    assert "00000000.parquet: holds other images than --input lists" in capsys.readouterr().err
    plain = ["images", "--device", "cpu", "--checkpoint", checkpoint, "--input", photos, "--output", whole, "--quiet"]
    assert main([*map(str, plain)]) == 2
    assert "holds Parquet shards" in capsys.readouterr().err
    (tmp_path / "drawn").mkdir()
    (tmp_path / "drawn" / "predictions.json").write_text('{"schema": 2, "images": []}')
    assert main(arguments(checkpoint, photos, tmp_path / "drawn")) == 2
    assert "holds explained photographs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--shard-size", 0], "--shard-size must be at least 1, found 0"),
        (["--max-errors", -1], "--max-errors must be at least 0, found -1"),
        (["--targets", "cow"], "unknown class 'cow'"),
        (["--format", "files", "--max-errors", 5], "--max-errors goes with --format parquet"),
        (["--format", "files", "--input", "s3://birds"], "s3://birds: addresses are read with --format parquet only"),
    ],
)
def test_bad_options_are_one_clear_line(
    checkpoint: Path, photos: Path, more: list[object], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(checkpoint, photos, tmp_path / "out", *more)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said in line


def test_overlays_are_drawn_only_when_asked_for(checkpoint: Path, photos: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args = arguments(checkpoint, photos, out, "--shard-size", 4, "--overlays", "jpeg", "--max-side", 40)
    assert main(args) == 0
    drawn = sorted((out / "overlays").rglob("*.jpg"))
    assert [path.parent.name for path in drawn] == ["00000000"] * 12 + ["00000001"] * 9
    assert max(Image.open(drawn[0]).size) == 40
    assert rows(out) == rows(whole)
    assert not (whole / "overlays").exists()


def test_what_was_written_among_the_photographs_is_no_input(checkpoint: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 2)
    plain = ["images", "--device", "cpu", "--checkpoint", str(checkpoint), "--input", str(photos), "--quiet"]
    assert main([*plain, "--output", str(photos / "explained")]) == 0
    assert main(arguments(checkpoint, photos, photos / "drawn", "--overlays", "jpeg")) == 0
    assert main(arguments(checkpoint, photos, tmp_path / "rows")) == 0
    assert main([*plain, "--output", str(tmp_path / "explained")]) == 0
    assert [len(rows(folder)) for folder in (photos / "drawn", tmp_path / "rows")] == [2, 2]
    assert len(json.loads((tmp_path / "explained" / "predictions.json").read_text())["images"]) == 2


def test_half_precision_is_close(checkpoint: Path, photos: Path, whole: Path, tmp_path: Path) -> None:
    assert main(arguments(checkpoint, photos, tmp_path / "out", "--shard-size", 4, "--precision", "bf16")) == 0
    for half, single in zip(rows(tmp_path / "out"), rows(whole), strict=True):
        assert half["maps"] != single["maps"]
        assert sum(half["probabilities"]) == pytest.approx(sum(single["probabilities"]), abs=0.02)


def test_a_process_takes_its_shards_and_then_what_others_leave(
    checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = arguments(checkpoint, photos, out, "--shard-size", 2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    claim = out / ".claims" / "00000001.lock"
    claim.parent.mkdir(parents=True)
    with FileLock(claim):  # the other process is at work
        assert main([*args, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["complete"] is False
    files = {path.name: path.stat().st_mtime_ns for path in (out / "shards").iterdir()}
    assert sorted(files, key=files.__getitem__) == [f"0000000{n}.parquet" for n in (0, 2, 3)]
    monkeypatch.setenv("RANK", "1")
    assert main(args) == 0
    assert len(rows(out)) == manifest(out)["complete"]["images"] == 7
    monkeypatch.setenv("RANK", "2")
    assert main(args) == 2
    assert "RANK is 2 and WORLD_SIZE 2, expected a rank from 0 to 1" in capsys.readouterr().err


def test_kill_nine_at_any_moment_loses_and_doubles_nothing(checkpoint: Path, tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "photos", 60), tmp_path / "out"
    args = arguments(checkpoint, photos, out, "--shard-size", 3)
    moments = random.Random(os.getpid())
    for number in range(3):
        seen, run = count_done(out), start(args, tmp_path / f"printed_{number}", module="agcam.cli.explain")
        while count_done(out) <= seen and run.process.is_alive():
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.1))
        run.process.kill()
        assert run.wait() in (-signal.SIGKILL, 0), run.printed
        if number == 0:  # as a kill while the last shard is written leaves it; the next runs may finish that shard
            assert not (out / "shards" / "00000019.parquet").exists()
            (out / "shards" / ".00000019.parquet.1.part").write_bytes(b"cut")
    last = start(args, tmp_path / "printed", module="agcam.cli.explain")
    assert last.wait() == 0, last.printed
    assert main(arguments(checkpoint, photos, tmp_path / "whole", "--shard-size", 3)) == 0
    assert rows(out) == rows(tmp_path / "whole")
    assert len(rows(out)) == 60
    assert [path.name for path in (out / ".claims").iterdir()] == ["manifest.lock"]


def torchrun(count: int, args: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    return subprocess.Popen([*command, "-m", "agcam", *args], stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.slow
def test_torchrun_shares_shards_and_any_number_of_processes_finishes_them(checkpoint: Path, tmp_path: Path) -> None:
    photos, out = write_photos(tmp_path / "photos", 60), tmp_path / "out"
    args = arguments(checkpoint, photos, out, "--shard-size", 2)
    two = torchrun(2, args)
    while not count_done(out) and two.poll() is None:
        time.sleep(0.002)
    os.killpg(two.pid, signal.SIGKILL)
    two.wait()
    started = {facts(path)["about"]["started"] for path in (out / "shards").glob("*.parquet")}
    assert started
    three = torchrun(3, args)
    _, printed = three.communicate(timeout=120)
    assert three.returncode == 0, printed.decode()
    assert [Path(row["name"]).name for row in rows(out)] == [f"{number:03}.png" for number in range(60)]
    assert main(arguments(checkpoint, photos, tmp_path / "whole", "--shard-size", 2)) == 0
    assert rows(out) == rows(tmp_path / "whole")
