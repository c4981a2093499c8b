"""Trackers that cannot start, and trackers that fail while the model trains."""

from __future__ import annotations

import os
import pickle
import pty
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from agcam.callbacks.explanation import ExplanationCallback
from agcam.cli.train import main
from agcam.data import Shapes
from agcam.tracking import tracker_guard as guard
from agcam.training.classifier import ViTClassifier
from command_lines import SMALL, TINY_MODEL
from processes import free_port, start
from reading import column, csv_rows

ROOT = Path(__file__).parents[2]
DATA = ["--data=Shapes", "--data.train_size=16", "--data.val_size=9", "--data.batch_size=8", "--data.num_workers=0"]
FIT = ["fit", *SMALL, *TINY_MODEL, *DATA, "--explanation.gallery=2", "--trainer.log_every_n_steps=1"]


def logger(kind: str, **arguments: Any) -> str:
    return f"{{class_path: {kind}, init_args: {{{', '.join(f'{k}: {v}' for k, v in arguments.items())}}}}}"


def fit(folder: Path, loggers: list[Logger], *callbacks: L.Callback, gallery: int = 2) -> list[str]:
    """Train for three epochs; returns what was warned of trackers."""
    model_args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=3,
        log_every_n_steps=1,
        logger=loggers,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[ExplanationCallback(gallery=gallery), *callbacks],
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(
            ViTClassifier("vit_tiny_patch16_224", image_size=32, backbone_args=model_args),
            datamodule=Shapes(train_size=16, val_size=9, batch_size=8, num_workers=0),
        )
    assert trainer.state.finished
    return [str(w.message) for w in caught if "Training continues" in str(w.message)]


class AtEpoch(L.Callback):
    """Does something as an epoch's training begins."""

    def __init__(self, epoch: int, action: Callable[[], Any]) -> None:
        self.epoch = epoch
        self.action = action

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            self.action()


def kill_wandb() -> None:
    children = [pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]
    (core,) = [pid for pid in children if "wandb-core" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(int(core), signal.SIGKILL)


class KillWandb(AtEpoch):
    """Kills W&B's process as the second epoch begins."""

    def __init__(self) -> None:
        super().__init__(1, kill_wandb)


def test_wandb_whose_process_is_killed_is_reported_once(tmp_path: Path) -> None:
    args = [
        *(*FIT, "--trainer.max_epochs=3", "--trainer.callbacks+=test_trackers_failing.KillWandb"),
        f"--trainer.logger={logger('WandbLogger', save_dir=tmp_path, project='agcam', id='killed', offline='true')}",
    ]
    process = start(args, tmp_path / "printed")
    assert process.wait() == 0, process.printed
    assert process.printed.count("WandbLogger failed (ConnectionResetError: Connection lost). Training continues") == 1
    rows = csv_rows(tmp_path / "agcam" / "killed" / "metrics.csv")  # beside the checkpoints, though nobody asked
    assert (len(column(rows, "train/loss")), len(column(rows, "val/loc/iou"))) == (6, 3)
    panels = (tmp_path / "agcam" / "killed" / "explanations").glob("val_epoch_*/panel.json")
    assert len(list(panels)) == 3


def test_an_online_run_without_a_key_is_refused_and_nobody_is_asked(tmp_path: Path) -> None:
    arguments = [*FIT, f"--trainer.logger={logger('WandbLogger', save_dir=tmp_path, project='agcam')}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "CUDA_VISIBLE_DEVICES": ""}
    terminal, inner = pty.openpty()  # W&B asks only people: let it believe in one
    command = [sys.executable, "train.py", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=inner, stdout=inner, stderr=inner)
    os.close(inner)
    printed = b"".join(_read(terminal)).decode()
    assert process.wait(timeout=60) == 2
    assert "error: W&B has no API key. Log in (wandb login), set WANDB_API_KEY, or record" in printed
    assert "Enter your choice" not in printed
    assert "Traceback" not in printed


def _read(terminal: int) -> Iterator[bytes]:
    try:
        while part := os.read(terminal, 65536):
            yield part
    except OSError:  # the other side is closed
        return


def test_a_server_that_does_not_answer_at_the_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{free_port()}"
    monkeypatch.chdir(tmp_path)
    assert main([*FIT, f"--trainer.logger={logger('MLFlowLogger', tracking_uri=uri)}"]) == 2
    printed = capsys.readouterr().err
    assert f"error: MLFlowLogger cannot start a run: MlflowException: API request to {uri}" in printed
    assert printed.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_pictures_that_cannot_be_written_are_reported_once(tmp_path: Path) -> None:
    run = tmp_path / "version_0"

    reported = fit(tmp_path, [CSVLogger(tmp_path, "")], AtEpoch(0, (run / "explanations").touch))
    assert len(reported) == 1
    assert reported[0].startswith("DiskWriter failed (")
    assert str(run / "explanations") in reported[0]
    assert len(column(csv_rows(run / "metrics.csv"), "val/loc/iou")) == 3


def test_metrics_wait_for_a_disk_that_comes_back(tmp_path: Path) -> None:
    run, away = tmp_path / "version_0", tmp_path / "away"

    def unmount() -> None:
        run.rename(away)
        run.touch()

    def mount() -> None:
        run.unlink()
        away.rename(run)

    reported = fit(tmp_path, [CSVLogger(tmp_path, "")], AtEpoch(1, unmount), AtEpoch(2, mount), gallery=0)
    assert [text.split()[0] for text in reported] == ["CSVLogger"]
    rows = csv_rows(run / "metrics.csv")
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(6))
    assert [row["epoch"] for row in rows if "val/loc/iou" in row] == [0, 1, 2]


# its writing thread ends with the error that the next call is told
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tensorboard_on_a_full_disk_is_reported_once(tmp_path: Path) -> None:
    def fill() -> None:
        (events,) = (tmp_path / "version_0").glob("events.*")
        events.unlink()
        events.symlink_to("/dev/full")

    reported = fit(tmp_path, [TensorBoardLogger(tmp_path, "")], AtEpoch(1, fill))
    assert len(reported) == 1
    assert reported[0].startswith("TensorBoardLogger failed (OSError: [Errno 28] No space left on device)")
    rows = csv_rows(tmp_path / "version_0" / "metrics.csv")
    assert (len(column(rows, "train/loss")), len(column(rows, "val/loc/iou"))) == (6, 3)


def test_no_logger_stays_no_logger(tmp_path: Path) -> None:
    assert fit(tmp_path, []) == []
    assert [path.name for path in tmp_path.iterdir()] == ["explanations"]


class Slow(CSVLogger):
    """Takes three seconds to fail, on a clock of its own."""

    now, tries, finalized = 0.0, 0, False

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.now += 3
        self.tries += 1
        raise TimeoutError("no answer\nfor long")

    def finalize(self, status: str) -> None:
        self.finalized = True


def test_a_tracker_that_fails_slowly_is_left_alone_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(tmp_path)
    guard.guard_loggers([slow])
    guard.guard_loggers([slow])
    monkeypatch.setattr(guard, "time", SimpleNamespace(monotonic=lambda: slow.now))
    with pytest.warns(UserWarning, match=r"^Slow failed \(TimeoutError: no answer\)\. Training continues"):
        slow.log_metrics({})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tries = []
        for _ in range(130):
            slow.now += 1
            slow.log_metrics({})
            tries.append(slow.tries)
        slow.finalize("success")
    assert [tries.index(count) for count in (2, 3)] == [59, 119]
    assert slow.finalized


def test_a_guarded_logger_is_what_it_was(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path), WandbLogger(offline=True, save_dir=tmp_path), TensorBoardLogger(tmp_path)]
    guard.guard_loggers(loggers)
    assert [type(entry) for entry in loggers] == [CSVLogger, WandbLogger, TensorBoardLogger]
    again = pickle.loads(pickle.dumps(loggers[0]))  # as launchers that spawn do
    again.log_metrics({"a": 1.0}, 3)
    again.save()
    assert csv_rows(Path(again.log_dir) / "metrics.csv") == [{"a": 1.0, "step": 3.0}]
