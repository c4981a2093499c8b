import pytest

from agcam.console import progress as module
from agcam.console.progress import progress


def test_lines_where_nobody_watches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "_EVERY", 0.0)
    with progress("explaining", 3) as done:
        done(2)
        done(1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" images,")[0] for line in lines] == [f"explaining: {n} of 3" for n in (2, 3, 3)]
    assert "s left" in lines[0]
    assert "s left" not in lines[-1]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with progress("explaining", 3) as done:
        done(3)
    assert "━" in capsys.readouterr().err


def test_no_color_means_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    with progress("explaining", 3) as done:
        done(3)
    assert "\x1b" not in capsys.readouterr().err


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("explaining", 3, quiet=True) as done:
        done(3)
    assert not capsys.readouterr().err
