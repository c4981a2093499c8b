"""Whoever raises it, a command ends with one line and a status: 2 for what a user can change, 1 for the unexpected."""

from __future__ import annotations

import queue
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from agcam.benchmark import run as benchmark_run
from agcam.benchmark.measure import BenchmarkConfig
from agcam.cli.explain import main as explain_main
from agcam.cli.options import plain_texts
from agcam.cli.train import main
from agcam.console.one_line import print_error
from agcam.errors import AgcamError, InputError, UnexpectedError
from agcam.training.classifier import ViTClassifier
from last_line import ELASTIC, FIT, MEETING, the_error
from processes import free_port, start


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--trainer.accelerator=tpu", "torch_xla is not installed: pip install torch_xla"),
        (
            "--trainer.accelerator=foo",
            "--trainer.accelerator foo: there is no such accelerator; known are auto, gpu, cpu",
        ),
        ("--trainer.devices=0", "--trainer.devices 0: expected a number of at least 1"),
        ("--trainer.devices=x", "--trainer.devices: expected a number of at least 1"),
        ("--trainer.strategy=ddpp", "--trainer.strategy ddpp: there is no such strategy; known are ddp, "),
        ("--trainer.max_epochs=-5", "Lightning: `max_epochs` must be a non-negative integer or -1. You passed in -5."),
        ("--trainer.limit_train_batches=-3", "Lightning: You have passed invalid value -3"),
        ("--trainer.profiler=foo", "Lightning: When passing string value for the `profiler`"),
        ("--trainer.num_nodes=2", "--trainer.num_nodes 2: MASTER_ADDR is not set"),
        ("--trainer.accumulate_grad_batches=0", "--trainer.accumulate_grad_batches must be at least 1, found 0"),
        ("--trainer.callbacks+={class_path: Timer, init_args: {duration: x}}", "Expected a string in the format DD:HH"),
        ("--trainer.callbacks+={class_path: Timer, init_args: {duration: {hour: 1}}}", "Timer: 'hour' is an invalid"),
        ("--seed_everything=-5", "-5 is not in bounds"),
        ("--data.train_size=0", "data.train_size must be a number of images, at least 1, found 0"),
        ("--ckpt_path=hpc", 'Lightning: `.fit(ckpt_path="hpc")` is set but no HPC checkpoint was found'),
    ],
)
def test_what_lightning_refuses_is_one_line(
    option: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)  # Lightning sets it for good
    assert main([*FIT, option]) == 2
    assert said in the_error(capsys.readouterr().err)


def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    run = start([*FIT, "--trainer.accelerator=gpu"], tmp_path / "out", {"CUDA_VISIBLE_DEVICES": ""})
    assert run.wait() == 2
    assert the_error(run.printed).startswith("--trainer.accelerator gpu: torch finds no GPU here; ")


@pytest.mark.parametrize(
    ("hidden", "logger", "said"),
    [
        (["tensorboard", "tensorboardX"], "TensorBoardLogger, init_args: {save_dir: x}", "pip install tensorboard"),
        (["mlflow", "mlflow_skinny"], "MLFlowLogger", "MLFlowLogger: mlflow is not installed: pip install mlflow"),
    ],
)
def test_a_package_that_is_not_installed_is_named(hidden: list[str], logger: str, said: str, tmp_path: Path) -> None:
    run = start([*FIT, f"--trainer.logger={{class_path: {logger}}}"], tmp_path / "out", before=partial(_hide, hidden))
    assert run.wait() == 2
    assert said in the_error(run.printed)


def _step_of(raising: Callable[[], object], *args: Any, **kwargs: Any) -> None:
    raising()


def _allocate() -> None:
    torch.empty(1 << 60)


def _gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.11 GiB\nmore")


@pytest.mark.parametrize(("raising", "tried"), [(_allocate, "4611686018427387904 bytes"), (_gpu_memory, "2.00 GiB")])
def test_memory_that_runs_out_says_what_to_make_smaller(
    raising: Callable[[], object], tried: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agcam.training.classifier.ViTClassifier.training_step", partial(_step_of, raising))
    assert main(FIT) == 2
    error = the_error(capsys.readouterr().err)
    assert error.startswith(
        f"memory ran out (tried to get {tried}); take smaller batches (agcam fit: --data.batch_size, "
    )


def _bug(*args: Any, **kwargs: Any) -> None:
    {}["nothing"]


LINE = _bug.__code__.co_firstlineno + 1


def test_a_bug_is_one_line_with_its_place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("agcam.training.classifier.ViTClassifier.training_step", _bug)
    assert main(FIT) == 1
    error = the_error(capsys.readouterr().err)
    assert error.startswith("unexpected KeyError: 'nothing' (at ")
    assert f"test_one_line.py:{LINE}, from agcam/" in error
    assert "run again with --debug for the traceback" in error


def test_a_bug_in_a_loader_worker_is_one_line_with_its_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agcam.data.shapes.ShapesDataset.__getitem__", _bug)
    assert main([*FIT, "--data.num_workers=1", "--trainer.num_sanity_val_steps=0"]) == 1
    error = the_error(capsys.readouterr().err)
    assert error.startswith("unexpected KeyError: 'nothing' (at ")
    assert f"test_one_line.py:{LINE}, from agcam/data/source.py:" in error


def test_a_bug_in_two_processes_is_one_line_of_both(tmp_path: Path) -> None:
    shared = {**ELASTIC, **MEETING, "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [*FIT, "--trainer.devices=2", "--trainer.strategy=ddp", f"--trainer.default_root_dir={tmp_path}"]
    runs = [
        start(command, tmp_path / rank, shared | {"RANK": rank, "LOCAL_RANK": rank}, before=_break_the_step)
        for rank in ("0", "1")
    ]
    assert [run.wait() for run in runs] == [1, 1]
    printed = "".join(run.printed for run in runs)
    assert "Traceback" not in printed
    (line,) = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: process \d of 2: unexpected KeyError: 'nothing' \(at .*; run again with --debug", line)


def _break_the_step() -> None:
    ViTClassifier.training_step = _bug  # type: ignore[method-assign]  # in a process of its own


def _raise(error: Exception) -> Any:
    raise error


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (KeyError("x"), UnexpectedError, "process 1 of 2: unexpected KeyError: 'x' (at "),
        (MemoryError(), AgcamError, "process 1 of 2: memory ran out; take smaller batches"),
        (InputError("what is wrong"), AgcamError, "process 1 of 2: what is wrong"),
    ],
)
def test_a_process_of_a_benchmark_hands_its_line_over(
    error: Exception, kind: type[Exception], said: str, tmp_path: Path
) -> None:
    told: queue.Queue[Exception] = queue.Queue()
    config = BenchmarkConfig(methods=(), metrics=(), against_masks=False, batch_size=1)
    with pytest.raises(SystemExit):
        benchmark_run._worker(partial(_raise, error), config, tmp_path, 1, ["cpu", "cpu"], told)
    found = told.get_nowait()
    assert type(found) is kind
    assert str(found).startswith(said)
    assert print_error(found) == (1 if kind is UnexpectedError else 2)


def test_a_bug_while_options_become_objects_is_no_option_s_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agcam.training.classifier.timm.is_model", lambda name: 1 // 0)
    assert main(FIT) == 1
    assert the_error(capsys.readouterr().err).startswith("unexpected ZeroDivisionError: ")


@pytest.mark.parametrize("asked", ["option", "first", "variable"])
def test_debug_shows_the_traceback_and_then_the_line(
    asked: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("agcam.training.classifier.ViTClassifier.training_step", _bug)
    if asked == "variable":
        monkeypatch.setenv("AGCAM_DEBUG", "1")
    args = {"option": [*FIT, "--debug"], "first": ["--debug", *FIT], "variable": FIT}[asked]
    assert main(args) == 1
    printed = capsys.readouterr().err
    assert printed.count("Traceback (most recent call last):") == 1
    assert f'test_one_line.py", line {LINE}, in _bug' in printed
    assert printed.splitlines()[-1].startswith("error: unexpected KeyError: 'nothing'")


def test_debug_of_one_command_is_not_that_of_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIT, "--debug", "--trainer.devices=0"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert main([*FIT, "--trainer.devices=0"]) == 2
    the_error(capsys.readouterr().err)


def _images(tmp_path: Path) -> list[str]:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.ppm").write_bytes(b"P6 8 8 255\n" + bytes(192))
    model = ["--backbone=vit_tiny_patch16_224", "--device=cpu"]
    return ["images", *model, f"--input={tmp_path / 'photos'}", f"--output={tmp_path / 'out'}"]


def test_explain_ends_in_the_same_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = _images(tmp_path)
    monkeypatch.setattr("agcam.cli.images.explain_images", _bug)
    assert explain_main(args) == 1
    assert the_error(capsys.readouterr().err).startswith("unexpected KeyError: 'nothing' (at ")
    monkeypatch.setattr("agcam.cli.images.explain_images", partial(_step_of, _gpu_memory))
    assert explain_main(args) == 2
    assert "agcam images and benchmark: --batch-size" in the_error(capsys.readouterr().err)
    assert explain_main([*args, "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_lightning_s_timer_works_by_flags(tmp_path: Path) -> None:
    timer = ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:00:01:00"]
    logger = f"--trainer.logger={{class_path: CSVLogger, init_args: {{save_dir: {tmp_path}, name: ''}}}}"
    assert main([*FIT, logger, *timer]) == 0
    config = tmp_path / "version_0" / "config.yaml"
    assert "interval: step" in config.read_text()
    assert main(["fit", "--config", str(config)]) == 0


def test_plain_texts_leaves_other_values_as_they_are() -> None:
    from jsonargparse import Namespace
    from lightning.pytorch.callbacks.timer import Interval

    found = plain_texts(Namespace(a=[Namespace(b=Interval.epoch)], c=1.5, d=None))
    assert found == Namespace(a=[Namespace(b="epoch")], c=1.5, d=None)
    assert type(found.a[0].b) is str


def _hide(names: list[str]) -> None:
    """Make packages look as if they were not installed."""
    import importlib.metadata

    class Hiding:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name.partition(".")[0] in names:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Hiding)  # type: ignore[arg-type]  # all that an import asks for
    for name in [name for name in sys.modules if name.partition(".")[0] in names]:
        del sys.modules[name]
    known = importlib.metadata.distribution

    def distribution(name: str) -> importlib.metadata.Distribution:
        if name.replace("-", "_") in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return known(name)

    importlib.metadata.distribution = distribution
