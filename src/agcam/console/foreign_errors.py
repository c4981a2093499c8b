"""Turn errors of the machine, Lightning, torch and the trackers that a user can fix into agcam's own."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from agcam.console.raised_at import innermost, raised_in, refused_in
from agcam.errors import AgcamError, DataError, InputError, OutputError, TrainingError, brief

_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.ENOTDIR}
_NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "NODE_RANK", "MASTER_PORT")
_NUMBER_PREFIXES = ("SLURM_", "JSM_", "OMPI_", "PMI_", "LSB_")
_MEMORY = re.compile(
    r"out of memory|DefaultCPUAllocator: (?:can't allocate|not enough) memory|Cannot allocate memory|bad_alloc"
)
_TRIED = re.compile(r"[Tt]r(?:ied|ying) to allocate:? ([\d.,]+ ?\w+)")
_USERS = (  # by name: most of these libraries are not loaded
    "lightning.fabric.utilities.exceptions.MisconfigurationException",
    "lightning_utilities.core.rank_zero.MisconfigurationException",
    "wandb.errors",
    "wandb.sdk.lib.service",
    "wandb.proto",
    "mlflow.exceptions",
    "requests.exceptions",
    "urllib3.exceptions",
    "httpx",
    "huggingface_hub.errors",
    "huggingface_hub.utils",
    "safetensors",
    "optuna.exceptions",
)
"""Modules or types of errors about the user's options, accounts and servers."""


def as_ours(error: Exception) -> Exception:
    """Turn an error that a user can fix into one of ours; return any other unchanged.

    A user can fix: our own errors, also those from a loader worker; the machine's (disk, memory, ports, killed
    workers); variables of the environment; missing packages; and what Lightning and trackers refuse.
    """
    said = str(error)
    if isinstance(error, AgcamError):
        found = re.match(r"Caught \w+ in DataLoader worker process", said)
        return type(error)(said.strip().splitlines()[-1].partition(": ")[2]) if found else error
    return _of_machine(error, said) or _of_environment(error, said) or _of_library(error, said) or error


def root_cause(error: BaseException) -> BaseException:
    """Return the first error of the chain that this one was raised from."""
    return list(_causes(error))[-1]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, the one it was raised from, and so on."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _of_machine(error: Exception, said: str) -> AgcamError | None:
    if isinstance(error, MemoryError) or "OutOfMemoryError" in type(error).__name__ or _is_memory(error, said):
        tried = f" (tried to get {found[1]})" if (found := _TRIED.search(said)) else ""
        return TrainingError(
            f"memory ran out{tried}; take smaller batches (agcam fit: --data.batch_size, agcam images and "
            "benchmark: --batch-size), smaller images or a smaller model"
        )
    if "EADDRINUSE" in said or (isinstance(error, OSError) and error.errno == errno.EADDRINUSE):
        port = os.environ.get("MASTER_PORT")
        return InputError(
            f"port {port or ''} is taken by another process; set MASTER_PORT to a free one".replace("  ", " ")
        )
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return OutputError(f"{error.filename or 'output'}: {error.strerror}; make room there or choose another place")
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        return DataError("too many open files; take fewer --data.num_workers, or raise the limit (ulimit -n)")
    if isinstance(error, OSError) and error.filename:
        return InputError(f"{error.filename}: {error.strerror}")
    if isinstance(error, RuntimeError) and (found := re.search(r"DataLoader worker \(pid\(?s?\)? [^)]*\) [^.]*", said)):
        return DataError(f"{found[0]}; if memory ran out, take fewer: --data.num_workers")
    return None


def _is_memory(error: Exception, said: str) -> bool:
    return isinstance(error, RuntimeError | OSError) and _MEMORY.search(said) is not None


def _of_environment(error: Exception, said: str) -> AgcamError | None:
    """Recognize a variable of a launcher or cluster that Lightning or torch cannot read."""
    if isinstance(error, ValueError) and (found := re.match(r"invalid literal for int\(\) with base 10: '(.*)'", said)):
        named = [n for n in os.environ if n in _NUMBERS or n.startswith(_NUMBER_PREFIXES)]
        guilty = [n for n in sorted(named) if os.environ[n] == found[1]]
        if guilty and raised_in(error, "lightning", "lightning_utilities", "torch"):
            return InputError(
                f"the environment variable {guilty[0]} is {found[1]!r}, expected a whole number; unset it, or start "
                "with torchrun or srun, which set it"
            )
    frame = innermost(error)
    if isinstance(error, KeyError) and frame is not None and frame.filename.endswith(("os.py", "<frozen os>")):
        return InputError(f"the environment variable {said.strip(chr(39))} is not set; torchrun and srun set it")
    return None


def _of_library(error: Exception, said: str) -> AgcamError | None:
    if isinstance(error, ImportError) and not (error.name or "").startswith("agcam"):
        needed = list(dict.fromkeys(re.findall(r"(?:Requirement '|No module named ')([\w-]+)", said)))
        names = " or ".join(needed)
        return InputError(f"{names} is not installed: pip install {needed[-1]}" if needed else brief(error))
    kinds = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    if any(kind == name or kind.startswith(f"{name}.") for kind in kinds for name in _USERS):
        library = _library(type(error).__module__)
        return InputError(_lightnings(error) if library == "Lightning" else f"{library}: {brief(error)}")
    if type(error).__name__ in ("DistNetworkError", "DistStoreError"):
        return InputError(
            f"the processes did not find each other ({brief(error, 160)}); MASTER_ADDR and MASTER_PORT must be the "
            "same for all of them, and all must be started"
        )
    checks = ValueError | TypeError | RuntimeError | NotImplementedError
    if isinstance(error, checks) and refused_in(error, "lightning", "lightning_utilities"):
        return InputError(_lightnings(error))
    return None


def _lightnings(error: Exception) -> str:
    from agcam.console.lightning_words import in_our_words  # it has raised this, so that it is loaded

    return in_our_words(error)


def _library(module: str) -> str:
    name = module.partition(".")[0]
    return {"lightning": "Lightning", "lightning_utilities": "Lightning", "wandb": "W&B", "mlflow": "MLflow"}.get(
        name, name
    )
