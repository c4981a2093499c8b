"""One process at a time writes into a folder: who is refused, and when it is free again."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from agcam.errors import InputError, OutputError
from agcam.io.lock import lock_folder, locked_folder
from processes import another_holds


def test_the_folder_of_another_process_is_refused_in_one_line(tmp_path: Path) -> None:
    with another_holds(tmp_path / "runs"), pytest.raises(InputError, match="runs: another process is writing here;"):
        lock_folder(tmp_path / "runs")
    lock_folder(tmp_path / "runs").release()


def _work_on(folder: Path, told: int) -> None:
    """Hold a folder and start a process that outlives this one, as loader workers do for a moment."""
    lock = lock_folder(folder)
    worker = os.fork()
    if not worker:
        time.sleep(30)
        os._exit(0)
    os.write(told, f"{worker}\n".encode())
    time.sleep(1000)
    lock.release()


def test_a_killed_process_frees_its_folder_though_its_workers_live_on(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        _work_on(tmp_path, theirs)
    worker = int(os.read(ours, 20))
    try:
        with pytest.raises(InputError, match="another process is writing here"):
            lock_folder(tmp_path)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.kill(worker, 0)  # it lives
        lock_folder(tmp_path).release()
    finally:
        os.kill(worker, signal.SIGKILL)
        os.close(ours)
        os.close(theirs)


def test_a_worker_that_ends_leaves_its_parents_folder_held(tmp_path: Path) -> None:
    with locked_folder(tmp_path):
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(0,))
        worker.start()
        worker.join()
        checker = multiprocessing.get_context("fork").Process(target=_expect_refusal, args=(tmp_path,))
        checker.start()
        checker.join()
        assert checker.exitcode == 0
    assert not list(tmp_path.iterdir())  # nothing is left behind


def _expect_refusal(folder: Path) -> None:
    with pytest.raises(InputError, match="another process is writing here"):
        lock_folder(folder)


def test_a_process_may_hold_a_folder_twice(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    with locked_folder(tmp_path):
        pass
    checker = multiprocessing.get_context("fork").Process(target=_expect_refusal, args=(tmp_path,))
    checker.start()
    checker.join()
    assert checker.exitcode == 0
    lock.release()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/out: cannot be written \(Not a directory\)"):
        lock_folder(tmp_path / "file" / "out")
