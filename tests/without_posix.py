"""Run by a test in a process of its own: agcam without what POSIX or Linux alone have.

Other libraries ask which system they are on and are imported first; whatever of ours asks for these, misses them.
"""

import importlib
import os
import pkgutil
import signal
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import albumentations
import cv2
import filelock
import lightning.pytorch.cli
import matplotlib.pyplot
import rich.console
import scipy.stats
import timm
import torchmetrics
import torchvision
import wandb

from command_lines import SMALL, TINY_MODEL

OTHERS = [albumentations, cv2, filelock, lightning, matplotlib, rich, scipy, timm, torchmetrics, torchvision, wandb]
MODULES = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp", "syslog")
FUNCTIONS = (
    *("sched_getaffinity", "sched_setaffinity", "fork", "forkpty", "geteuid", "getuid", "getegid", "statvfs", "fchmod"),
    *("fchown", "chown", "getpgid", "killpg", "setsid", "uname", "mkfifo", "mknod", "nice", "getloadavg", "wait3"),
    *("O_DIRECTORY", "O_NOFOLLOW", "posix_fadvise", "posix_fallocate", "sysconf", "fdatasync"),
)
# Lightning itself asks for SIGKILL and SIGUSR1 wherever the platform is not called Windows
SIGNALS = ("SIGHUP", "SIGUSR2", "SIGALRM", "SIGCHLD", "pthread_sigmask", "setitimer", "alarm")


class Hidden(MetaPathFinder):
    """Says of some modules that there are none."""

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        if fullname in MODULES:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def hide() -> None:
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Hidden())
    for name in FUNCTIONS:
        vars(os).pop(name, None)
    for name in SIGNALS:
        vars(signal).pop(name, None)


def import_all() -> int:
    """Import every module of the package; returns how many."""
    import agcam

    names = [module.name for module in pkgutil.walk_packages(agcam.__path__, "agcam.")]
    names.remove("agcam.ray")  # it imports Ray, whose build for Linux needs what is hidden here
    for name in names:
        importlib.import_module(name)
    return len(names)


def run(folder: Path) -> None:
    from PIL import Image

    from agcam.cli.explain import main as explain
    from agcam.cli.train import main as train

    Image.new("RGB", (32, 32)).save(folder / "x.png")
    data = ["--data=Shapes", "--data.train_size=8", "--data.val_size=4", "--data.batch_size=4", "--data.num_workers=0"]
    training = [*SMALL, *TINY_MODEL, *data, "--trainer.max_epochs=1", f"--trainer.default_root_dir={folder}"]
    assert train(["fit", *training]) == 0
    (checkpoint,) = folder.rglob("*.ckpt")
    pictures = ["--input", str(folder / "x.png"), "--output", str(folder / "explained"), "--device", "cpu"]
    assert explain(["images", "--checkpoint", str(checkpoint), *pictures]) == 0


if __name__ == "__main__":
    place = Path(sys.argv.pop())
    hide()
    print(f"imported {import_all()} modules")  # noqa: T201  # for the test
    run(place)
