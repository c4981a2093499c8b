"""Files of strangers: checkpoints, weights, archives, configurations run nothing and fill neither disk nor memory."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import resource
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from agcam.benchmark import shard
from agcam.cli.data_config import open_split
from agcam.cli.explain import main as explain
from agcam.cli.train import main as train
from agcam.data.input_config import InputConfig
from agcam.data.shapes import CLASSES
from agcam.errors import DataError, ModelError
from agcam.io import archives as unpack
from agcam.training.classifier import ViTClassifier
from agcam.training.export import export, open_exported
from agcam.training.weights import read_checkpoint, read_weights
from command_lines import SMALL, TINY_MODEL

SETTINGS: dict[str, Any] = {
    "backbone": "vit_tiny_patch16_224",
    "image_size": 32,
    "backbone_args": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "class_names": ["a", "b"],
    "multilabel": False,
}
SHAPES = ["--data=Shapes", "--data.train_size=8", "--data.val_size=4", "--data.num_workers=0"]


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


def checkpoint(**changes: Any) -> dict[str, Any]:
    """What a classifier's checkpoint holds, its settings changed."""
    model = ViTClassifier(**SETTINGS)
    return {"state_dict": model.state_dict(), "hyper_parameters": SETTINGS | changes}


def bombs(folder: Path) -> dict[str, Callable[[Path], object]]:
    """Ways to put a bomb into a file."""
    good, bomb = checkpoint(), Bomb(folder)
    return {
        "pickle": lambda path: path.write_bytes(pickle.dumps(bomb)),
        "zip": lambda path: torch.save({"state_dict": bomb}, path),
        "old": lambda path: torch.save({"state_dict": bomb}, path, _use_new_zipfile_serialization=False),
        "setting": lambda path: torch.save(good | {"hyper_parameters": SETTINGS | {"lr": bomb}}, path),
        "callback": lambda path: torch.save(good | {"callbacks": {"x": bomb}}, path),
        "tensor": lambda path: torch.save(good | {"state_dict": good["state_dict"] | {"head.bias": bomb}}, path),
    }


@pytest.mark.parametrize("kind", ["pickle", "zip", "old", "setting", "callback", "tensor"])
def test_a_pickle_bomb_does_not_run(kind: str, tmp_path: Path) -> None:
    path, folder = tmp_path / "evil.ckpt", tmp_path / "boom"
    bombs(folder)[kind](path)
    for read in (read_checkpoint, read_weights, ViTClassifier.from_checkpoint):
        with pytest.raises(ModelError, match=r"evil\.ckpt: not a whole checkpoint of tensors and plain values"):
            read(path)
    assert not folder.exists()
    with suppress(Exception):
        torch.load(path, weights_only=False)
    assert folder.exists()  # it was a bomb


@pytest.mark.parametrize("command", ["fit", "validate", "weights", "images", "benchmark"])
def test_no_command_runs_a_pickle_bomb(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, folder, out = tmp_path / "evil.ckpt", tmp_path / "boom", str(tmp_path / "out")
    bombs(folder)["setting"](path)
    Image.new("RGB", (32, 32)).save(tmp_path / "x.png")
    training = [*SMALL, *TINY_MODEL, *SHAPES, "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}"]
    run, args = {
        "fit": (train, ["fit", *training, "--trainer.max_epochs=1", "--ckpt_path", str(path)]),
        "validate": (train, ["validate", *training, "--ckpt_path", str(path), "--weights_only=false"]),
        "weights": (train, ["fit", *training, "--trainer.max_epochs=1", f"--model.weights={path}"]),
        "images": (explain, ["images", "--checkpoint", str(path), "--input", str(tmp_path / "x.png"), "--output", out]),
        "benchmark": (explain, ["benchmark", "--checkpoint", str(path), "--output", out, *SHAPES]),
    }[command]
    assert run(args) == 2
    assert f"error: {path}: not a whole checkpoint of tensors and plain values" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize("name", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_settings_in_a_checkpoint_cannot_make_timm_load_another_file(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    value = "evil.pth" if name in ("checkpoint_path", "cache_dir") else {"file": "evil.pth"}
    path = tmp_path / "evil.ckpt"
    torch.save(checkpoint(backbone_args=SETTINGS["backbone_args"] | {name: value}), path)
    with pytest.raises(ModelError, match=rf"evil\.ckpt: .*leave out {name}; use model.weights"):
        ViTClassifier.from_checkpoint(path)
    args = ["fit", *SMALL, *SHAPES, "--trainer.logger=false", f"--trainer.default_root_dir={tmp_path}"]
    assert train([*args, "--trainer.max_epochs=1", "--ckpt_path", str(path)]) == 2
    assert f"leave out {name}; use model.weights" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 10**7},
        {"input": {"size": 10**7}},
        {"backbone": "vit_giant_patch14_224", "backbone_args": None},
        {"backbone_args": {"depth": 10**6}},
        {"backbone_args": {"embed_dim": 8000, "depth": 8}},
        {"class_names": ["a"] * 10**6},
    ],
)
def test_settings_that_ask_for_more_than_the_weights_fill_take_no_memory(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "evil.ckpt"
    torch.save(checkpoint(**changes), path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"evil\.ckpt: its settings"):
        ViTClassifier.from_checkpoint(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.mark.parametrize(
    "args",
    [
        {"img_size": 10**7},
        {"depth": 10**6},
        {"embed_dim": 8000, "depth": 8},
        {"checkpoint_path": "evil.pth"},
        {"pretrained_cfg": {"file": "evil.pth"}},
    ],
)
def test_an_exported_folder_can_ask_for_no_more_either(args: dict[str, Any], tmp_path: Path) -> None:
    export(ViTClassifier(**SETTINGS), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args"] |= args
    (tmp_path / "config.json").write_text(json.dumps(config))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError, match=r"config\.json: its settings"):
        open_exported(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_a_checkpoint_that_unpacks_to_more_than_itself_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {"x": torch.zeros(10**6)}}, tmp_path / "plain.pth")
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as old,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(ModelError, match=r"bomb\.pth: .*it unpacks to 4,\d{3},\d{3} bytes"):
        ViTClassifier(**SETTINGS, weights=str(tmp_path / "bomb.pth"))


def test_a_tensor_cannot_pretend_to_be_large(tmp_path: Path) -> None:
    state = dict(ViTClassifier(**SETTINGS).backbone.state_dict())
    state["pos_embed"] = torch.zeros(1, 1, 32).expand(1, 10**9, 32)  # to be resampled: 128 GB
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"w\.pth: 'pos_embed' is no plain tensor"):
        ViTClassifier(**SETTINGS, weights=str(tmp_path / "w.pth"))


def tar(path: Path, *members: tuple[str, bytes, bytes]) -> Path:
    """A gzipped archive of members (name, type, content); of links, the content is where they lead."""
    with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = content.decode()
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "content", "said"),
    [
        ("/tmp/outside", b"0", b"x", "would leave the folder"),
        ("../outside", b"0", b"x", "would leave the folder"),
        ("D/../../outside", b"0", b"x", "would leave the folder"),
        ("D/link", tarfile.SYMTYPE, b"a.txt", "neither file nor folder"),
        ("D/link", tarfile.SYMTYPE, b"/etc/passwd", "neither file nor folder"),
        ("D/link", tarfile.LNKTYPE, b"D/a.txt", "neither file nor folder"),
        ("D/null", tarfile.CHRTYPE, b"", "neither file nor folder"),
        ("D/disk", tarfile.BLKTYPE, b"", "neither file nor folder"),
        ("D/pipe", tarfile.FIFOTYPE, b"", "neither file nor folder"),
        ("D/a.txt", b"0", b"again", "File exists"),
    ],
)
def test_an_archive_stays_in_its_folder(name: str, kind: bytes, content: bytes, said: str, tmp_path: Path) -> None:
    path = tar(tmp_path / "d.tgz", ("D/a.txt", b"0", b"good"), (name, kind, content))
    with pytest.raises(DataError, match=rf"d\.tgz: cannot be unpacked.*{said}"):
        unpack.unpack(path, tmp_path / "root")
    assert [p.name for p in tmp_path.rglob("*") if not p.is_dir()] == ["d.tgz", "a.txt"]
    assert (tmp_path / "root/D/a.txt").read_bytes() == b"good"


def test_an_archive_brings_no_rights_along(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        info = tarfile.TarInfo("program")
        info.mode = 0o4777
        archive.addfile(info)
    unpack.unpack(tmp_path / "d.tar", tmp_path / "root")
    assert (tmp_path / "root/program").stat().st_mode & 0o7111 == 0


def test_an_archive_cannot_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MAX_BYTES", 10**6)
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 100)
    path = tar(tmp_path / "zeros.tgz", *((f"{n}", b"0", bytes(400_000)) for n in range(5)))
    assert path.stat().st_size < 10_000
    with pytest.raises(DataError, match=r"zeros\.tgz: holds more than 100 files or 1,000,000 bytes"):
        unpack.unpack(path, tmp_path / "root")
    assert sum(p.stat().st_size for p in (tmp_path / "root").iterdir()) <= 10**6
    many = tar(tmp_path / "many.tgz", *((f"{n}", b"0", b"") for n in range(101)))
    with pytest.raises(DataError, match=r"many\.tgz: holds more than 100 files or"):
        unpack.unpack(many, tmp_path / "others")


def test_a_name_of_gigabytes_is_not_taken_into_memory(tmp_path: Path) -> None:
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with gzip.open(tmp_path / "d.tgz", "wb", 1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(1 << 10):
            file.write(b"x" * (1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(
        DataError, match=r"d\.tgz: cannot be unpacked \(found a header of 1073741824 bytes, the limit is 262144\)"
    ):
        unpack.unpack(tmp_path / "d.tgz", tmp_path / "root")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000


def test_arrays_cannot_fill_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", failed=np.array("{}"), zeros=np.zeros(10**6))
    monkeypatch.setattr(shard, "refuse_bomb", lambda path: unpack.refuse_bomb(path, 10**6))
    with pytest.raises(DataError, match=r"x\.npz: .*it unpacks to 8,\d{3},\d{3} bytes, the limit is 1,000,000"):
        shard.read(tmp_path / "x.npz")


MODULE = """
from pathlib import Path
Path({marker!r}).mkdir()
from agcam.data import Shapes

class Stranger(Shapes):
    pass
"""


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that appears when the module `stranger` is imported."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / f"stranger_{tmp_path.name}.py").write_text(MODULE.format(marker=str(tmp_path / "boom")))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    return tmp_path / "boom"


def run_beside(section: str, folder: Path, *more: str) -> int:
    """`explain.py benchmark` of a checkpoint that has a configuration beside it."""
    settings = SETTINGS | {"class_names": CLASSES}
    state = ViTClassifier(**settings).state_dict()
    torch.save({"state_dict": state, "hyper_parameters": settings}, folder / "model.ckpt")
    (folder / "config.yaml").write_text(section)
    args = ["--checkpoint", str(folder / "model.ckpt"), "--output", str(folder / "out"), "--device", "cpu"]
    few = ["--methods", "random", "--metrics", "pointing_game", "--limit", "4"]
    return explain(["benchmark", *args, *few, *more])


SECTIONS = {
    "class": "data: {{class_path: stranger_{name}.Stranger, init_args: {{val_size: 4}}}}",
    "word": "data: stranger_{name}.Stranger",
    "file": "data: {folder}/other.yaml",
    "nested": "data: {{class_path: Shapes, init_args: {{augmentation: {{class_path: stranger_{name}.Stranger}}}}}}",
}


@pytest.mark.parametrize("kind", list(SECTIONS))
def test_a_configuration_found_beside_a_checkpoint_imports_nothing(
    kind: str, stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.yaml").write_text(f"class_path: stranger_{tmp_path.name}.Stranger")
    assert run_beside(SECTIONS[kind].format(name=tmp_path.name, folder=tmp_path), tmp_path) == 2
    assert f"error: {tmp_path / 'config.yaml'}: names " in capsys.readouterr().err
    assert not stranger.exists()


def test_a_configuration_beside_a_checkpoint_may_name_our_own_data(tmp_path: Path) -> None:
    assert run_beside("data: {class_path: agcam.data.Shapes, init_args: {val_size: 4}}", tmp_path) == 0


def test_a_configuration_that_somebody_names_is_code(stranger: Path, tmp_path: Path) -> None:
    """What docs/reliability.md warns of: a class is imported, and importing a module runs it."""
    section = SECTIONS["class"].format(name=tmp_path.name)
    assert run_beside(section, tmp_path, "--config", str(tmp_path / "config.yaml")) == 0
    assert stranger.exists()


def test_a_class_that_does_not_fit_its_place_is_imported_but_not_made(
    stranger: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(
        f"trainer: {{callbacks: [{{class_path: stranger_{tmp_path.name}.Stranger}}]}}\ndata: Shapes\n"
    )
    assert train(["fit", "--config", str(tmp_path / "config.yaml")]) == 2
    assert "trainer.callbacks: expected a list ([a, b]) or a Callback or null, found" in " ".join(
        capsys.readouterr().err.split()
    )
    assert stranger.exists()


@pytest.mark.parametrize(
    "text", ["data: !!python/object/apply:os.mkdir [{boom}]", "data: !!python/object/new:os.mkdir [{boom}]"]
)
def test_yaml_makes_no_objects(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text.format(boom=tmp_path / "boom"))
    assert train(["fit", "--config", str(path)]) == 2
    assert f"error: {path}:1: cannot be read as YAML" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"config\.yaml:1: cannot be read as YAML"):
        open_split(path, [], "val", InputConfig())
    assert not (tmp_path / "boom").exists()
