"""The folder of many explained images: its manifest, which shards are done, and who is at work on one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from agcam.bulk.listing import Shard
from agcam.bulk.shard_file import read_footer
from agcam.errors import DataError, InputError, brief
from agcam.io.atomic import cannot_write, make_folder
from agcam.io.explained_folder import MANIFEST, SHARDS, check_settings, holds_explanations
from agcam.io.json import write_json

SCHEMA = 1
_CLAIMS, _LOCK = ".claims", "manifest.lock"
_SECONDS = 60.0


@dataclass(frozen=True)
class Complete:
    """How much a folder holds in which every shard is done.

    Attributes:
        shards: files.
        images: rows, those that failed as well.
        errors: images that failed.
    """

    shards: int
    images: int
    errors: int


class ShardFolder:
    """An output folder into which any number of processes write shards.

    Args:
        folder: where; made if missing.
        settings: everything that explanations depend on, as JSON holds it.
        about: what made them beyond that.
        class_names: by class index.

    Raises:
        InputError: if the folder holds explanations with other settings, or overlays of photographs.
        DataError: if its manifest is broken.
        OutputError: if it cannot be written.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], about: dict[str, Any], class_names: Sequence[str]
    ) -> None:
        self.folder, self.settings, self.about, self.class_names = folder, settings, about, list(class_names)
        if holds_explanations(folder):
            raise InputError(
                f"{folder}: holds explained photographs; choose another folder for --format parquet, or leave that out"
            )
        make_folder(folder / _CLAIMS)
        make_folder(folder / SHARDS)
        with self._alone():
            found = read_manifest(folder)
            if found is None:
                self._write(None)
            else:
                check_settings(folder, found["settings"], settings)
                self.about = found["about"]

    def path_of(self, shard: Shard) -> Path:
        """Return where a shard is written."""
        return self.folder / SHARDS / f"{shard.number:08}.parquet"

    def errors_if_done(self, shard: Shard) -> int | None:
        """Return how many images of a shard failed; None if it is not done.

        Raises:
            InputError: if other images are there in its place.
            DataError: if its file is broken.
        """
        path = self.path_of(shard)
        if not path.is_file():
            return None
        footer = read_footer(path)
        if footer.key != shard.key:
            raise InputError(
                f"{path}: holds other images than --input lists at this place now; choose another folder for the "
                "output, or give the input as it was"
            )
        return footer.errors

    def claim(self, shard: Shard) -> FileLock | None:
        """Claim a shard for this process until `release`; None if another process is at work on it.

        The operating system frees the claim of a process that is killed.

        Raises:
            OutputError: if it cannot be claimed.
        """
        path = self._claim_of(shard)
        lock = FileLock(path, timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            return None
        except OSError as error:
            raise cannot_write(path, error) from error
        for part in self.path_of(shard).parent.glob(f".{self.path_of(shard).name}.*.part"):
            part.unlink(missing_ok=True)  # of a process that was killed; the claim says that it is gone
        return lock

    def release(self, shard: Shard, lock: FileLock) -> None:
        """Give a claim back."""
        with suppress(OSError):
            self._claim_of(shard).unlink()
        lock.release()

    def finish(self, shards: int) -> Complete | None:
        """Note in the manifest that everything is done, if all shards are there; return how much that is.

        Args:
            shards: how many the listing has.
        """
        paths = [self.folder / SHARDS / f"{number:08}.parquet" for number in range(shards)]
        if not all(path.is_file() for path in paths):
            return None
        images = errors = 0
        for path in paths:
            footer = read_footer(path)
            images, errors = images + footer.rows, errors + footer.errors
        found = Complete(shards, images, errors)
        with self._alone():
            self._write(found)
        for number in range(shards):  # killed processes left theirs
            (self.folder / _CLAIMS / f"{number:08}.lock").unlink(missing_ok=True)
        return found

    def _claim_of(self, shard: Shard) -> Path:
        return self.folder / _CLAIMS / f"{shard.number:08}.lock"

    def _write(self, complete: Complete | None) -> None:
        record = {"schema": SCHEMA, "settings": self.settings, "about": self.about, "complete": complete}
        write_json(self.folder / MANIFEST, record | {"class_names": self.class_names}, indent=2)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        path = self.folder / _CLAIMS / _LOCK
        try:
            with FileLock(path, timeout=_SECONDS):
                yield
        except Timeout:
            raise InputError(f"{path}: another process has held this for {_SECONDS:.0f} seconds; look at it") from None
        except OSError as error:
            raise cannot_write(path, error) from error


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Read a folder's manifest; None if there is none.

    Raises:
        DataError: if it is broken or of another version.
    """
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes())
        if found["schema"] != SCHEMA:
            raise ValueError(f"schema {found['schema']}")  # noqa: TRY301  # as any other damage
        if not isinstance(found["settings"], dict) or not isinstance(found["about"], dict):
            raise TypeError("settings and about are no dictionaries")  # noqa: TRY301  # as above
        return dict(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: not what agcam images writes ({type(error).__name__}: {brief(error)}); choose another folder "
            "for the output"
        ) from error
