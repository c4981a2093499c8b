"""Two results side by side: what differs, which way is worse, and what the command says of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_benchmarks import measure

from agcam import DataError, InputError
from agcam.benchmark.compare import Comparison, compare, open_results
from agcam.benchmark.results import write_json
from agcam.benchmark.shard import Shard
from agcam.cli.explain import main
from agcam.data.shapes import ShapesDataset
from agcam.metrics import paired_bootstrap

NAMES = [f"{number}.jpg" for number in range(40)]


def curves(lerf: np.ndarray, morf: np.ndarray) -> np.ndarray:
    """Rows (P, 22) of the metric "abpc" whose curves are flat."""
    return np.stack([lerf] * 11 + [morf] * 11, 1).astype(np.float32)


def shard(names: list[str] = NAMES, targets: list[int] | None = None, **rows: np.ndarray) -> Shard:
    """Rows of one method, "agcam"."""
    index = [NAMES.index(name) for name in names]
    pairs = {"index": np.array(index), "target": np.array(targets or [0] * len(names)), "name": np.array(names)}
    return Shard(pairs=pairs, rows={"agcam": rows})


def noise(seed: int, count: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).random(count)


def by_name(a: Shard, b: Shard, *values: str) -> dict[str, Comparison]:
    return {found.value: found for found in compare(a, "agcam", b, "agcam", list(values) or None)}


def test_worse_is_judged_by_which_way_is_better() -> None:
    a = shard(abpc=curves(noise(0), noise(1)))
    higher = shard(abpc=curves(noise(0) + 0.1, noise(1) + 0.1))
    up, down = by_name(a, higher), by_name(higher, a)
    assert up["lerf_auc"].difference.difference == pytest.approx(0.1, abs=1e-6)
    assert up["morf_auc"].difference.difference == pytest.approx(0.1, abs=1e-6)
    assert [name for name, found in up.items() if found.worse(0)] == ["morf_auc"]
    assert [name for name, found in down.items() if found.worse(0)] == ["lerf_auc"]


def test_what_is_neither_better_nor_worse_is_never_worse() -> None:
    found = by_name(shard(abpc=curves(noise(0), noise(1))), shard(abpc=curves(noise(0) - 0.5, noise(1))))["abpc"]
    assert found.worse(0)
    assert not Comparison(found.value, None, found.a, found.b, found.difference, found.count).worse(0)


def test_a_tolerance_is_exceeded_or_not() -> None:
    a, b = shard(abpc=curves(noise(0), noise(1))), shard(abpc=curves(noise(0) - 0.1, noise(1)))
    found = by_name(a, b)["abpc"]
    assert found.worse(0.09)
    assert not found.worse(0.11)


def test_better_is_said_where_it_is_no_chance_whichever_way_is_better() -> None:
    low, high = (shard(abpc=curves(noise(0) + more, noise(1) + more)) for more in (0.0, 0.1))
    up, down = by_name(low, high), by_name(high, low)
    assert [up["lerf_auc"].better, up["morf_auc"].better] == [True, False]
    assert [down["lerf_auc"].better, down["morf_auc"].better] == [False, True]
    assert not any(found.better and found.worse(0) for found in (*up.values(), *down.values()))
    assert not by_name(low, low)["lerf_auc"].better


def test_chance_is_not_worse() -> None:
    a, b = shard(abpc=curves(noise(0), noise(1))), shard(abpc=curves(noise(2), noise(1)))
    found = by_name(a, b)["lerf_auc"]
    assert found.difference.low < 0 < found.difference.high
    assert not found.worse(0)
    assert not by_name(b, a)["lerf_auc"].worse(0)


def test_differences_are_b_minus_a_over_images() -> None:
    one, other = noise(0), noise(2)
    found = by_name(shard(abpc=curves(one, noise(1))), shard(abpc=curves(other, noise(1))))["lerf_auc"]
    assert (found.a, found.b) == (pytest.approx(one.mean(), abs=1e-6), pytest.approx(other.mean(), abs=1e-6))
    assert found.difference == pytest.approx(paired_bootstrap(other.tolist(), one.tolist()), abs=1e-6)
    assert found.count == 40


def test_rows_meet_by_image_and_class_whatever_their_order() -> None:
    values, order = noise(0), np.random.default_rng(3).permutation(40)
    a = shard(abpc=curves(values, noise(1)))
    shuffled = shard([NAMES[place] for place in order], abpc=curves(values[order], noise(1)[order]))
    assert by_name(a, shuffled)["abpc"].difference[:3] == (0, 0, 0)
    part = shard(NAMES[10:30], abpc=curves(values[10:30], noise(1, 20)))
    assert by_name(a, part)["lerf_auc"].count == 20
    assert by_name(a, part)["lerf_auc"].difference.difference == 0
    others = shard(targets=[1] * 5 + [0] * 35, abpc=curves(values, noise(1)))
    assert by_name(a, others)["abpc"].count == 35


def test_rows_that_do_not_count_in_one_count_in_neither() -> None:
    one, other = noise(0), noise(0) + 0.1
    one[3], other[[5, 7]] = np.nan, np.nan
    found = by_name(shard(abpc=curves(one, noise(1))), shard(abpc=curves(other, noise(1))))
    assert found["lerf_auc"].count == 37
    assert found["lerf_auc"].difference.difference == pytest.approx(0.1, abs=1e-6)
    nothing = shard(abpc=curves(one * np.nan, one))
    assert by_name(nothing, nothing) == {}


def test_classes_of_an_image_are_drawn_together() -> None:
    one, other = noise(0, 10).repeat(4), noise(2, 10).repeat(4)
    names, targets = [name for name in NAMES[:10] for _ in range(4)], [0, 1, 2, 3] * 10
    a, b = (shard(names, targets, abpc=curves(values, np.zeros(40))) for values in (one, other))
    single = (shard(NAMES[:10], abpc=curves(values[::4], np.zeros(10))) for values in (one, other))
    found, expected = by_name(a, b)["abpc"].difference, by_name(*single)["abpc"].difference
    assert found == pytest.approx(expected, abs=1e-6)


def test_what_is_not_there_is_named_with_what_is() -> None:
    a, b = shard(abpc=curves(noise(0), noise(1))), shard(pointing_game=noise(2)[:, None])
    with pytest.raises(InputError, match="B has no method 'lrp'; it has agcam"):
        compare(a, "agcam", a, "lrp")
    with pytest.raises(InputError, match="value 'iou' is not in both; both have abpc, lerf_auc, morf_auc"):
        compare(a, "agcam", a, "agcam", ["iou"])
    assert compare(a, "agcam", b, "agcam") == []
    with pytest.raises(InputError, match="no image and class in common"):
        compare(a, "agcam", shard(targets=[1] * 40, abpc=curves(noise(0), noise(1))), "agcam")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a finished benchmark."""
    output = tmp_path_factory.mktemp("finished")
    results, _ = measure(output, ShapesDataset(40, 32, "val"), ["agcam"], ["pointing_game", "energy_pointing_game"])
    write_json(results, output / "results.json")
    return output


def run(*args: object) -> int:
    return main(["compare", *map(str, args)])


def printed(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_equal_results_do_not_differ(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(finished, finished, "--json") == 0
    found = printed(capsys)
    assert [row["value"] for row in found] == ["pointing_game", "energy_pointing_game"]
    for row in found:
        assert row["difference"] == {"difference": 0, "low": 0, "high": 0, "p_value": 1}
        assert (row["a"] == row["b"], row["count"], row["worse"], row["higher_is_better"]) == (True, 40, False, True)


def test_the_exit_status_is_a_gate(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["--values", "energy_pointing_game", "--methods"]
    assert run(finished, *pair, "center", "random") == 1
    shown = capsys.readouterr().out
    assert "worse" in shown
    assert "energy_pointing_game ↑" in shown
    assert "better" not in shown.partition("confidence")[0].replace("better, worse: B", "")
    assert run(finished, *pair, "random", "center") == 0
    (row,) = (line for line in capsys.readouterr().out.splitlines() if "energy_pointing_game" in line)
    assert " better " in row
    assert run(finished, *pair, "center", "random", "--tolerance", 0.5) == 0
    capsys.readouterr()
    assert run(finished, *pair, "center", "random", "--json") == 1
    (row,) = printed(capsys)
    assert row["worse"]
    assert row["difference"]["high"] < 0
    assert row["difference"]["difference"] == pytest.approx(row["b"] - row["a"], abs=1e-9)


def test_a_folder_of_no_finished_benchmark_is_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="no such file; expected the output folder"):
        open_results(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    (copy / "results.json").rename(copy / "aside.json")
    assert run(finished, copy) == 2
    assert f"error: {copy / 'results.json'}: no such file" in capsys.readouterr().err
    (copy / "aside.json").rename(copy / "results.json")
    shutil.rmtree(copy / "shards")
    assert run(copy, finished) == 2
    assert f"error: {copy}: shards/ does not hold all 40 images" in capsys.readouterr().err
    for broken in ('{"schema": 0}', "[]", "{", '{"schema": 2, "rows": [3]}', "\x00"):
        (copy / "results.json").write_text(broken)
        assert run(copy, finished) == 2
        assert capsys.readouterr().err.startswith(f"error: {copy / 'results.json'}: ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--methods", "lrp", "agcam"], "A has no method 'lrp'; it has agcam, random, center"),
        (["--methods", "agcam", "lrp"], "B has no method 'lrp'; it has agcam, random, center"),
        (["--methods", "agcam"], "with one results folder, name two --methods to compare"),
        (["--methods", "agcam", "random", "center"], "--methods takes one name or two, found 3"),
        (
            ["--methods", "agcam", "random", "--values", "abpc"],
            "value 'abpc' is not in both; both have pointing_game",
        ),
    ],
)
def test_what_cannot_be_compared_is_one_clear_line(
    args: list[str], said: str, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(finished, *args) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert said in error
