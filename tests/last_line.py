"""The line with which a command ends, and a training command of a second."""

from __future__ import annotations

from command_lines import SMALL, TINY_MODEL

DATA = ["--data=Shapes", "--data.train_size=4", "--data.val_size=2", "--data.batch_size=2", "--data.num_workers=0"]
SHORT = ["--trainer.max_epochs=1", "--trainer.logger=false", "--trainer.enable_checkpointing=false", "--explain=false"]
FIT = ["fit", *SMALL, *TINY_MODEL, *DATA, *SHORT]
ELASTIC = {"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "test"}
DDP = ["--trainer.devices=1", "--trainer.strategy=ddp"]
MEETING = {"MASTER_ADDR": "127.0.0.1"}


def the_error(printed: str) -> str:
    assert "Traceback" not in printed
    lines = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert printed.splitlines()[-1] == lines[0]
    return lines[0].removeprefix("error: ")
