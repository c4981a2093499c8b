"""Checkpoints that lie elsewhere: fetched by their owners' own clients, into their caches."""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from agcam.errors import InputError, ModelError, brief

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""The files of an exported model, as timm and the Hugging Face hub name them."""
HUB, ARTIFACT = "hf-hub:", "wandb-artifact:"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[^@\s]+)?")
_ARTIFACT_NAME = re.compile(r"([\w. -]+/)?[\w. -]+/[\w.-]+:[\w.-]+")


def is_remote(path: str | PurePath) -> bool:
    """Return whether a checkpoint is named by where it lies elsewhere."""
    return _text(path).startswith((HUB, ARTIFACT))


def fetch(path: str | PurePath) -> Path:
    """Return the path of a checkpoint on this machine, fetched first if it lies elsewhere.

    Args:
        path: a path, which is returned as it is; "hf-hub:OWNER/NAME" or "hf-hub:OWNER/NAME@REVISION", which
            `agcam export --push` wrote; or "wandb-artifact:ENTITY/PROJECT/NAME:ALIAS".

    Raises:
        InputError: for a name that is none.
        ModelError: if it cannot be fetched.
    """
    text = _text(path)
    if text.startswith(HUB):
        return _from_hub(text.removeprefix(HUB))
    if text.startswith(ARTIFACT):
        return _from_wandb(text.removeprefix(ARTIFACT))
    return Path(path)


def _text(path: str | PurePath) -> str:
    return path.as_posix() if isinstance(path, PurePath) else path  # Windows would write a name's slash otherwise


def fetch_weights(path: str) -> Path:
    """Return a file of weights on this machine, as `fetch` does; raises as it does."""
    found = fetch(path).expanduser()
    return found / WEIGHTS if is_remote(path) and found.is_dir() else found


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download  # what only these names need

    if not _HUB_NAME.fullmatch(name):
        raise InputError(f"{HUB}{name}: expected {HUB}OWNER/NAME, or {HUB}OWNER/NAME@REVISION")
    repository, _, revision = name.partition("@")
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:  # whatever the client raises for the network, the name or the disk
        raise ModelError(f"{HUB}{name} cannot be fetched ({type(error).__name__}: {brief(error)})") from error
    if not (folder / CONFIG).is_file():
        raise ModelError(f"{HUB}{name}: no {CONFIG} in it; expected what `agcam export --push` wrote")
    return folder


def _from_wandb(name: str) -> Path:
    import wandb  # as above

    if not _ARTIFACT_NAME.fullmatch(name):
        raise InputError(f"{ARTIFACT}{name}: expected {ARTIFACT}ENTITY/PROJECT/NAME:ALIAS")
    try:
        folder = Path(wandb.Api().artifact(name).download())
    except Exception as error:  # whatever the client raises for the network, the name or the disk
        raise ModelError(f"{ARTIFACT}{name} cannot be fetched ({type(error).__name__}: {brief(error)})") from error
    found = sorted(folder.rglob("*.ckpt"))
    if len(found) != 1:
        raise ModelError(f"{ARTIFACT}{name}: holds {len(found)} checkpoints (*.ckpt), expected one")
    return found[0]


def push(folder: Path, name: str, files: list[str]) -> str:
    """Upload files of a folder as a model of the Hugging Face hub, which is made if it is missing.

    Args:
        folder: where they are.
        name: "OWNER/NAME".
        files: their names; those that are not there are left out.

    Returns:
        The address of the commit.

    Raises:
        InputError: for a name that is none.
        ModelError: if it cannot be uploaded.
    """
    from huggingface_hub import HfApi  # as above

    if not _HUB_NAME.fullmatch(name) or "@" in name:
        raise InputError(f"--push {name}: expected OWNER/NAME")
    try:
        api = HfApi()
        api.create_repo(name, exist_ok=True)
        commit = api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=files, commit_message="Add a model by agcam"
        )
    except Exception as error:  # as above
        raise ModelError(f"{HUB}{name} cannot be written ({type(error).__name__}: {brief(error)})") from error
    return str(commit.commit_url)
