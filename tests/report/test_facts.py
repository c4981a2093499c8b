"""Every kind of report says on top what it is of: one list of facts, without absolute paths."""

import json
from pathlib import Path

import made_up
import pytest

from agcam.report.facts import About, duration, facts_of, settings_of, without_path
from agcam.report.model import percent
from agcam.report.write import open_report, write_report

LABELS = ["Run", "Model", "Weights", "Data", "Methods", "Settings", "Date", "Versions", "Device", "Cost"]


def test_a_run_has_all_facts_and_its_settings(tmp_path: Path) -> None:
    run = made_up.run(tmp_path / "birds" / "version_0", [[made_up.shown(0)]])
    config = (
        "seed_everything: 3\nmodel: {backbone: vit, weights: /home/me/vit.safetensors, lr: 0.001}\n"
        "data: {class_path: agcam.data.CUB200, init_args: {root: /data/birds, batch_size: 8}}\n"
        "trainer: {max_epochs: 2, logger: [{class_path: CSVLogger, init_args: {save_dir: /runs/x}}], limit: null}\n"
        "explanation: {methods: [agcam, random]}\n"
    )
    (run / "config.yaml").write_text(config)
    record = {
        "date": "2026-01-02T03:04",
        "versions": {"agcam": "1"},
        "device": "x86 CPU",
        "processes": 2,
        "seconds": 192,
    }
    (run / "run.json").write_text(json.dumps(record))
    report = open_report(run)
    facts = {fact.label: fact.value for fact in report.facts}
    assert list(facts)[: len(LABELS)] == LABELS
    assert facts["Weights"] == "from the weights vit.safetensors"
    assert facts["Settings"] == "batch size 8, learning rate 0.001, seed 3"
    assert (facts["Device"], facts["Cost"]) == ("2 × x86 CPU", "3 min 12 s of training")
    assert ("root", "birds") in [(name, value) for name, value in report.settings["Data"]]
    assert ("logger.1.save_dir", "x") in report.settings["Trainer"]
    page = write_report(run).read_text("utf-8")
    assert not any(text in page for text in ("/home/me", "/data/birds", "/runs/x", str(tmp_path)))
    assert 'id="settings"' in page


def test_a_benchmark_has_them(tmp_path: Path) -> None:
    labels = [fact.label for fact in open_report(made_up.benchmark(tmp_path / "b", [made_up.shown(0)])).facts]
    assert labels[:8] == ["Run", "Model", "Data", "Methods", "Settings", "Date", "Device", "Cost"]


def test_what_is_not_known_stays_out() -> None:
    assert facts_of(About()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/a/b.ckpt", "b.ckpt"),
        ("~/a/b.ckpt", "b.ckpt"),
        (r"C:\a\b.ckpt", "b.ckpt"),
        ("runs/b.ckpt", "runs/b.ckpt"),
        ("vit", "vit"),
    ],
)
def test_of_absolute_paths_the_last_part_is_shown(text: str, expected: str) -> None:
    assert without_path(text) == expected


def test_a_share_that_rounds_to_nothing_has_no_sign() -> None:
    assert percent(-0.0001) == "0.0\N{NO-BREAK SPACE}%"
    assert percent(-0.012) == "-1.2\N{NO-BREAK SPACE}%"


def test_settings_have_dotted_names() -> None:
    found = settings_of({"data": {"class_path": "X", "init_args": {"a": {"b": 1}, "c": None, "d": [1, 2]}}})
    assert found == {"Data": [("class_path", "X"), ("a.b", "1"), ("d", "1, 2")]}


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "under 1 s"), (45, "45 s"), (192, "3 min 12 s"), (7500, "2 h 5 min")]
)
def test_times_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said
