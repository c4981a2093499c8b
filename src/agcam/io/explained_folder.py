"""The record of a folder of explained photographs: what was explained, how, and what is left after a kill.

While a command runs, each finished batch is appended to `.progress.jsonl`; `predictions.json` is written at the end and
the journal removed. A later command reads both, refuses other settings, and skips what is done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agcam.errors import DataError, InputError, brief
from agcam.io.atomic import cannot_write, make_folder, write_whole
from agcam.io.redact import without_home
from agcam.io.text import inside, name_of_file

PREDICTIONS = "predictions.json"
JOURNAL = ".progress.jsonl"
MANIFEST, SHARDS, OVERLAYS = "manifest.json", "shards", "overlays"
"""What a folder of Parquet shards holds; its pictures, where there are any, lie in `overlays/SHARD`."""
SCHEMA = 2


class ExplainedFolder:
    """The entries of an output folder, one a photograph; the caller holds the folder's lock.

    Args:
        folder: where; made if missing.
        settings: everything that the files depend on, as JSON holds it.
        about: further provenance of this run, such as versions and date.

    Raises:
        InputError: if the folder holds explanations with other settings.
        DataError: if its record is broken or of an older version.
        OutputError: if it cannot be written.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], about: dict[str, Any]) -> None:
        make_folder(folder)
        self.folder, self.settings, self.about = folder, settings, about
        self.entries: dict[str, dict[str, Any]] = {}
        self.runs: list[dict[str, Any]] = []
        self.explained = 0
        self._begun = False
        self._read()
        for part in folder.glob(".*.part"):  # of a process that was killed; the lock says that it is gone
            part.unlink(missing_ok=True)

    def done(self, path: Path) -> bool:
        """Return whether a photograph was explained, by its path, size and time of change."""
        entry = self.entries.get(_place(path))
        return entry is not None and entry["file"] == file_state(path)

    def images_of(self, paths: Sequence[Path]) -> list[dict[str, Any]]:
        """Return the entries of photographs, in their order, without those that failed."""
        return [self.entries[place] for path in paths if (place := _place(path)) in self.entries]

    def stems(self, paths: Sequence[Path], stem_of: Any) -> dict[Path, str]:
        """Give each path a file stem of its own: the one it had, else one that is not taken.

        Args:
            paths: photographs.
            stem_of: makes a stem of a path.
        """
        taken = {str(entry["stem"]) for entry in self.entries.values()}
        last: dict[str, int] = {}
        stems = {}
        for path in paths:
            known = self.entries.get(_place(path))
            if known is not None:
                stems[path] = str(known["stem"])
                continue
            stem = stem_of(path)
            number = last.get(stem, 0) + 1
            while (candidate := stem if number == 1 else f"{stem}_{number}") in taken:
                number += 1
            last[stem] = number
            taken.add(candidate)
            stems[path] = candidate
        return stems

    def begin(self) -> None:
        """Start the journal, before any other file is written: it marks the folder as one of explanations.

        Raises:
            OutputError: if it cannot be written.
        """
        self._append([{"settings": self.settings, "about": self.about, "number": len(self.runs)}])
        self._begun = True

    def add(self, found: Sequence[tuple[Path, dict[str, Any]]]) -> None:
        """Record photographs whose files are whole; the journal must have begun.

        Raises:
            OutputError: if the journal cannot be written.
        """
        entries = [{"image": without_home(name_of_file(path)), **entry, "run": len(self.runs)} for path, entry in found]
        self._append(entries)
        for (path, _), entry in zip(found, entries, strict=True):
            before = self.entries.get(_place(path))
            self.entries[_place(path)] = entry
            if before is not None:  # the photograph has changed: its classes, too
                for name in files_of(before) - files_of(entry):
                    (self.folder / name).unlink(missing_ok=True)
        self.explained += len(entries)

    def finish(self, errors: Sequence[str] = (), seconds: float | None = None) -> None:
        """Write `predictions.json` and remove the journal.

        Args:
            errors: of this call, a line for each photograph that failed.
            seconds: that this call took, where it is known.

        Raises:
            OutputError: if it cannot be written.
        """
        taken = {} if seconds is None else {"seconds": round(seconds, 2)}
        runs = [*self.runs, *([self.about | taken | {"images": self.explained}] if self._begun else [])]
        record = {
            "schema": SCHEMA,
            "settings": self.settings,
            "runs": runs or [self.about | {"images": 0}],
            "errors": list(errors),
            "images": list(self.entries.values()),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False)
        write_whole(self.folder / PREDICTIONS, f"{text}\n".encode())
        (self.folder / JOURNAL).unlink(missing_ok=True)

    def _read(self) -> None:
        path = self.folder / PREDICTIONS
        if path.is_file():
            record = read_record(self.folder)
            check_settings(self.folder, record["settings"], self.settings)
            self.runs = record["runs"]
            self.entries = {_place_of(entry): entry for entry in record["images"]}
        merged = False
        for line in self._journal_lines():
            if "about" in line:
                check_settings(self.folder, line["settings"], self.settings)
                merged = line["number"] < len(self.runs)  # killed before the journal of a finished call was removed
                self.runs += [] if merged else [line["about"] | {"images": 0}]
            elif not merged:
                self.entries[_place_of(line)] = line
                self.runs[-1]["images"] += 1

    def _journal_lines(self) -> list[dict[str, Any]]:
        path = self.folder / JOURNAL
        if not path.is_file():
            return []
        whole = path.read_bytes().rpartition(b"\n")[0]
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            known = ({"settings", "about", "number"}, {"file", "stem", "view", "heatmaps", "classes"})
            if lines and not (known[0] <= set(lines[0]) and all(any(k <= set(line) for k in known) for line in lines)):
                raise ValueError("a line lacks what it should hold")  # noqa: TRY301  # as any other damage
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path}: not what agcam images writes ({brief(error)}); remove it to start over"
            ) from error
        with path.open("r+b") as file:
            file.truncate(len(whole) + 1 if whole else 0)  # the line that a kill has cut
        return lines

    def _append(self, lines: Sequence[dict[str, Any]]) -> None:
        path = self.folder / JOURNAL
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        try:
            with path.open("ab") as file:
                file.write(text.encode())
        except OSError as error:
            raise cannot_write(path, error) from error


def check_settings(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Check that the explanations in a folder were made with the settings that are wanted.

    Raises:
        InputError: naming the first setting that differs.
    """
    for name in dict.fromkeys([*found, *wanted]):
        one, other = found.get(name), wanted.get(name)
        if one != other:
            raise InputError(
                f"{folder}: its photographs were explained with {name} {_short(one)}, not {_short(other)}; "
                "choose another folder for the output, or the same model and settings to add to this one"
            )


def read_record(folder: Path) -> dict[str, Any]:
    """Read `predictions.json`; earlier versions wrote the list of images alone, which is refused.

    Raises:
        DataError: if it is missing, broken or of another version.
    """
    path = folder / PREDICTIONS
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise DataError(
                f"{path}: written by an older version or by something else; explain the photographs again, "
                "into another folder"
            )
        settings, runs, images = dict(record["settings"]), list(record["runs"]), list(record["images"])
        for entry in images:
            _place_of(entry), str(entry["stem"]), files_of(entry)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: not what agcam images writes ({type(error).__name__}: {brief(error)}); "
            "explain the photographs again, into another folder"
        ) from error
    return {"settings": settings, "runs": runs, "images": images, "errors": record.get("errors", [])}


def file_state(path: Path) -> dict[str, Any]:
    """Return what tells a file from another, and from an earlier state: its absolute path, size and time of change."""
    try:
        state = path.stat()
    except OSError:  # whoever reads it will say so
        return {}
    return {"path": _place(path), "bytes": state.st_size, "modified": state.st_mtime_ns}


def files_of(entry: dict[str, Any]) -> set[str]:
    """Return the names of an entry's files in the folder."""
    names = [entry["view"], entry["heatmaps"], *(found["overlay"] for found in entry["classes"] if "overlay" in found)]
    return {inside(Path(name).name, PREDICTIONS) for name in names}


def holds_explanations(folder: Path) -> bool:
    """Return whether `agcam images` writes into a folder, in this or an earlier version."""
    if (folder / JOURNAL).is_file():
        return True
    try:
        found = json.loads((folder / PREDICTIONS).read_text(encoding="utf-8"))
        images = found["images"] if isinstance(found, dict) else found
        return not images or "heatmaps" in images[0]
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError):
        return False


def holds_shards(folder: Path) -> bool:
    """Return whether `agcam images --format parquet` writes into a folder."""
    return (folder / MANIFEST).is_file() and (folder / SHARDS).is_dir()


def holds_own_pictures(folder: Path) -> bool:
    """Return whether the pictures in a folder are ones that `agcam images` wrote, in either format."""
    return holds_explanations(folder) or (folder.parent.name == OVERLAYS and holds_shards(folder.parent.parent))


def _place(path: Path) -> str:
    return str(without_home(name_of_file(Path(os.path.abspath(path)))))  # noqa: PTH100  # not where links lead


def _place_of(entry: dict[str, Any]) -> str:
    return str(entry["file"]["path"])


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return f"{text[:60]}…" if len(text) > 60 else text
