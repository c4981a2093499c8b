"""A metric that is declared in one place, outside of the package, is in every file, table, plot and list."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from small_benchmarks import write_checkpoint
from torch import Tensor

import agcam
from agcam import InputError
from agcam.benchmark.results import read_json
from agcam.cli.explain import main
from agcam.io import plugins
from agcam.metrics import Curve, MetricInputs, MetricSpec, SpecMetric, Value, column, metric_specs, registry
from agcam.metrics.registry import parse_metrics
from agcam.report.benchmark import benchmark_report

X = (0.0, 0.5, 1.0)


def contrast_rows(inputs: MetricInputs) -> Tensor:
    """The standard deviation, then a falling curve."""
    spread = inputs.heatmaps.flatten(1).float().std(1)
    return torch.stack([spread, *(spread * (1 - x) for x in X)], 1)


CONTRAST = MetricSpec(
    "contrast",
    contrast_rows,
    (Value("contrast/spread", column(0), "Contrast of the map", "How far its values lie apart."),),
    (Curve("contrast/fading", X, slice(1, 4), "Fading contrast", help="How it fades."),),
    help="how far the values of a map lie apart",
    width=4,
)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    """No other test knows what these register."""
    registry.registered()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
        yield


def run_benchmark(output: Path, *metrics: str) -> int:
    checkpoint = write_checkpoint(output.parent / "model.ckpt")
    known = ["benchmark", "--device", "cpu", "--checkpoint", checkpoint, "--output", output, "--methods", "agcam"]
    return main([*map(str, known), *metrics, "--data", "Shapes", "--data.val_size", "6"])


def test_a_registered_metric_is_in_every_file_table_plot_and_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agcam.register_metric(CONTRAST)
    output = tmp_path / "out"
    assert run_benchmark(output, "--metrics", "contrast", "pointing_game") == 0
    assert "contrast" in capsys.readouterr().out  # the terminal's table
    results = read_json(output / "results.json")
    assert list(results.values) == ["pointing_game", "contrast/spread"]
    assert results.values["contrast/spread"].group == "Other"
    for row in results.rows:
        assert row.values["contrast/spread"].count == 6
        assert row.curves["contrast/fading"][2] == 0
    assert "## Other\n\n| method | spread ↑ |" in (output / "results.md").read_text()
    latex = (output / "results.tex").read_text()
    assert "% Other" in latex
    assert r"method & spread $\uparrow$ \\" in latex
    assert "contrast/spread" in (output / "images.csv").read_text().splitlines()[0]
    assert "Fading contrast" in (output / "figures" / "perturbation.svg").read_text()
    report = benchmark_report(output)
    assert report.table is not None
    (other,) = [part for part in report.table.parts if part.title == "Other"]
    assert [(line.label, line.help) for line in other.lines] == [
        ("Contrast of the map", "How far its values lie apart.")
    ]
    assert [chart.title for chart in report.charts] == ["Fading contrast"]
    assert report.words["contrast/spread"].label == "Contrast of the map"  # the gallery's glossary
    page = (output / "report.html").read_text("utf-8")
    assert page.count("How far its values lie apart.") >= 2


def test_a_metric_of_a_module_needs_no_registration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_metrics", sys.modules[__name__])
    assert run_benchmark(tmp_path / "out", "--metrics", "my_metrics:CONTRAST") == 0
    assert list(read_json(tmp_path / "out" / "results.json").values) == ["contrast/spread"]
    assert "contrast" not in metric_specs()


def test_the_torchmetrics_class_gives_what_the_benchmark_gives() -> None:
    metric = SpecMetric(CONTRAST)
    maps = torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(0))
    right = torch.ones(5, dtype=torch.bool)
    for rows in (slice(0, 2), slice(2, 5)):
        metric.update(
            MetricInputs(
                torch.nn.Identity(),
                torch.zeros(5, 3, 8, 8)[rows],
                maps[rows],
                right.long()[rows],
                right[rows],
                right[rows],
            )
        )
    found = metric.compute()
    assert found["spread"] == pytest.approx(float(maps.flatten(1).std(1).mean()))
    assert found["fading"].tolist() == pytest.approx([float(found["spread"]) * (1 - x) for x in X])
    assert int(found["count"]) == 5


def point(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package, my-metrics, that adds a metric."""
    found = EntryPoint(name, value, "agcam.metrics")
    distribution = type("Distribution", (), {"name": "my-metrics"})()
    monkeypatch.setattr(plugins, "entry_points", lambda group: [found._for(distribution)])
    monkeypatch.setattr(registry._PLUGINS, "broken", {})
    monkeypatch.setattr(registry._PLUGINS, "loaded", False)


def test_an_installed_package_adds_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    point("contrast", f"{__name__}:CONTRAST", monkeypatch)
    assert list(metric_specs())[-1] == "contrast"
    assert parse_metrics(["contrast"]) == [CONTRAST]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("no_such_module:SPEC", "ModuleNotFoundError: No module named 'no_such_module'"),
        (f"{__name__}:X", "InputError: a metric must be an agcam.metrics.MetricSpec, found tuple"),
    ],
)
def test_a_broken_package_stops_nothing_and_is_named_to_who_asks_for_its_metric(
    value: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point("theirs", value, monkeypatch)
    with pytest.warns(UserWarning, match="metric 'theirs' of the installed package my-metrics") as warned:
        assert "abpc" in metric_specs()
    assert len(warned) == 1
    assert "abpc" in metric_specs()  # which warns no more: warnings of agcam are errors here
    assert run_benchmark(tmp_path / "out", "--metrics", "theirs") == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"metric 'theirs' of the installed package my-metrics cannot be loaded ({said}" in line
    assert line.endswith("update my-metrics or uninstall it")


def test_names_are_taken_once() -> None:
    with pytest.raises(InputError, match="both named 'abpc'; rename one"):
        agcam.register_metric(MetricSpec("abpc", contrast_rows, ()))
    with pytest.raises(InputError, match="metrics 'abpc' and 'mine' both have a value 'morf_auc'; rename one"):
        agcam.register_metric(MetricSpec("mine", contrast_rows, (Value("morf_auc", column(0)),)))
    with pytest.raises(InputError, match=r"may hold letters, digits and _ \. / - only, found 'a:b'"):
        agcam.register_metric(MetricSpec("a:b", contrast_rows, ()))
    agcam.register_metric(CONTRAST)
    agcam.register_metric(MetricSpec("contrast", contrast_rows, ()))  # run again, in a notebook
    assert metric_specs()["contrast"].values == ()


@pytest.mark.parametrize("name", ["no_such_module:SPEC", f"{__name__}:nothing", f"{__name__}:X"])
def test_what_is_no_metric_is_one_clear_line(name: str) -> None:
    with pytest.raises(InputError, match=f"metric '{name}' (cannot be imported|must be an agcam.metrics.MetricSpec)"):
        parse_metrics([name])


def test_rows_must_be_one_a_pair() -> None:
    flat = MetricSpec("flat", lambda inputs: inputs.heatmaps.flatten(1).std(1), (Value("flat", column(0)),))
    right = torch.ones(2, dtype=torch.bool)
    inputs = MetricInputs(torch.nn.Identity(), torch.zeros(2, 3, 8, 8), torch.rand(2, 4, 4), right.long(), right, right)
    with pytest.raises(InputError, match=r"metric 'flat' must give rows \(2, K\), one for each pair, found \(2,\)"):
        flat.measure(inputs)


def test_functions_that_no_process_can_be_sent_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    agcam.register_metric(MetricSpec("flat", lambda i: i.heatmaps.flatten(1)[:, :1], (Value("flat", column(0)),)))
    assert run_benchmark(tmp_path / "out", "--metrics", "flat", "--devices", "2") == 2
    assert "a method or metric cannot be sent to other processes" in capsys.readouterr().err


def test_what_another_version_wrote_is_refused_by_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert run_benchmark(output, "--metrics", "pointing_game") == 0
    for name, said in (
        ("results.json", "results.json: has schema '1', this version reads 2; run the benchmark again"),
        ("benchmark.json", f"{output} holds a benchmark of schema '1', this version writes 2; choose another --output"),
    ):
        text = (output / name).read_text()
        (output / name).write_text(json.dumps(json.loads(text) | {"schema": 1}))
        capsys.readouterr()
        if name == "results.json":
            assert main(["compare", str(output), "--methods", "agcam", "random"]) == 2
        else:
            assert run_benchmark(output, "--metrics", "pointing_game") == 2
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert said in line
        (output / name).write_text(text)
