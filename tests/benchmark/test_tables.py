"""Tables as readers see them: Markdown parsed as GitHub does, LaTeX read back cell by cell."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from agcam.benchmark.results import Cost, Estimate, Results, Row, ValueInfo, describe_values
from agcam.benchmark.tables import latex, markdown, write
from agcam.errors import OutputError
from agcam.metrics.registry import metric_specs

HOSTILE = [
    "a|b||c",
    "back\\slash\\",
    "\\|",
    "$x_1$ and $$",
    "<script>alert(1)</script>",
    "&lt;b&gt; &amp;",
    "`code` ``",
    "*bold* **bold** _it_ __b__ ~~gone~~",
    "[link](http://x) ![img](y)",
    "100% #1 {a} ^b ~c",
    "two\nlines\r\nthree",
    "# head",
    "\\input{/etc/passwd}",
]
LATEX = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    **{f"\\{c}": c for c in "&%$#_{}"},
}
KNOWN = describe_values(list(metric_specs().values()))
VALUES = {name: KNOWN[name] for name in ("localization/iou", "abpc", "morf_auc")}
VALUES["sanity/plain"] = ValueInfo(KNOWN["sanity/cascading_ssim"].group, "plain", "", None, False)
Cell = tuple[str, bool]


def value(number: float, count: int = 9) -> Estimate:
    return Estimate(number, number - 0.1, number + 0.1, count)


def row(method: str, *numbers: float, control: bool = False, **more: Any) -> Row:
    values = {name: value(number) for name, number in zip(VALUES, numbers, strict=False)}
    return Row(method, control, values=values, cost=Cost(1.5, 2.25), **more)


def results(*rows: Row, about: dict[str, str] | None = None, absent: dict[str, str] | None = None) -> Results:
    return Results(list(rows), VALUES, {}, absent or {}, 9, 9, value(0.5), about or {})


def parse(text: str) -> list[Token]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)


def plain(inline: Token) -> str:
    """The text of a cell or paragraph, which holds nothing but text and bold text."""
    children = inline.children or []
    assert {child.type for child in children} <= {"text", "text_special", "strong_open", "strong_close"}, inline.content
    return "".join(child.content for child in children)


def tables(text: str) -> dict[str, list[list[Cell]]]:
    """The rows of each table by its heading, each cell with whether it is bold."""
    found: dict[str, list[list[Cell]]] = {}
    tokens = parse(text)
    for token, inner in pairwise(tokens):
        if token.type == "heading_open":
            rows = found.setdefault(plain(inner), [])
        elif token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open"):
            rows[-1].append((plain(inner), any(child.type == "strong_open" for child in inner.children or [])))
    return {heading: rows for heading, rows in found.items() if rows}


def bold(text: str, column: str) -> list[str]:
    """The methods whose figure is bold in a column."""
    for head, *rows in tables(text).values():
        for place, (name, _) in enumerate(head):
            if name == column:
                return [cells[0][0] for cells in rows if cells[place][1]]
    raise AssertionError(column)


def one_line(text: str) -> str:
    return " ".join(text.split())


def latex_rows(text: str) -> list[list[str]]:
    """The cells of all rows below the heads."""
    bodies = re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.DOTALL)
    return [
        [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r" \\"))]
        for body in bodies
        for line in body.splitlines()
    ]


def read_latex(cell: str) -> str:
    """What LaTeX would print; fails where it would see anything but text."""
    escape = "|".join(re.escape(command) for command in LATEX)
    assert re.fullmatch(rf"(?:{escape}|[^\\&%$#_{{}}~^<>|])*", cell), cell
    return re.sub(escape, lambda found: LATEX[found[0]], cell)


def test_the_best_is_bold_whichever_way_is_better_and_controls_never_are() -> None:
    shown = results(
        row("agcam", 0.4, 0.2, 0.3, 0.5),
        row("lrp", 0.3, 0.25, 0.1, 0.6),
        row("center", 0.2, 0.1, 0.7, 0.9, control=True),
    )
    text = markdown(shown)
    assert bold(text, "iou ↑") == ["agcam"]
    assert bold(text, "abpc ↑") == ["lrp"]
    assert bold(text, "morf auc ↓") == ["lrp"]
    assert bold(text, "plain") == []
    rows = latex_rows(latex(shown))
    assert [cells[0] for cells in rows if r"\textbf{0.400}" in cells] == ["agcam"]
    assert [cells[0] for cells in rows if r"\textbf{0.100}" in cells] == ["lrp"]
    assert not [cells for cells in rows if "center" in cells[0] and any("textbf" in cell for cell in cells)]


def test_equals_are_all_bold() -> None:
    assert bold(markdown(results(row("agcam", 0.4), row("lrp", 0.4))), "iou ↑") == ["agcam", "lrp"]


def test_controls_stand_last_and_are_called_so() -> None:
    text = markdown(results(row("center", 0.9, control=True), row("agcam", 0.4), row("lrp", 0.3)))
    for _, *rows in tables(text).values():
        assert [cells[0][0] for cells in rows] == ["agcam", "lrp", "center (control)"]


def test_every_figure_has_its_interval_and_its_count() -> None:
    shown = results(row("agcam", 0.4, 0.2))
    shown.rows[0].values["abpc"] = value(0.2, count=1234)
    text = markdown(shown)
    cells = tables(text)["Localization, corrected protocol"][1]
    assert cells[1] == ("0.400 [0.300, 0.500]", True)
    assert "Rows counted: localization: 9; abpc: 1,234." in text


def test_what_failed_is_absent_or_is_broken_is_told() -> None:
    shown = results(
        row("agcam", 0.4),
        Row("rollout", False, failed="it has no class token"),
        row("lrp", 0.3, broken=[f"{number}.jpg (class 1)" for number in range(12)]),
        absent={"pxap": "the data have no masks"},
    )
    text = markdown(shown)
    rows = {cells[0][0]: cells[1][0] for cells in tables(text)["Localization, corrected protocol"][1:]}
    assert rows == {"agcam": "0.400 [0.300, 0.500]", "rollout": "–", "lrp": "0.300† [0.200, 0.400]"}
    notes = [plain(token) for token in parse(text) if token.type == "inline"]
    assert "rollout: failed. it has no class token" in notes
    assert "pxap: not measured, the data have no masks." in notes
    assert (
        "† lrp: 12 heatmaps hold NaN or infinity, in no value: 0.jpg (class 1), 1.jpg (class 1), 2.jpg (class 1), "
        "3.jpg (class 1), 4.jpg (class 1), 5.jpg (class 1), 6.jpg (class 1), 7.jpg (class 1), 8.jpg (class 1), "
        "9.jpg (class 1), … (12 in all)."
    ) in notes
    assert ["rollout", "–"] in latex_rows(latex(shown))


@pytest.mark.parametrize("label", HOSTILE)
def test_names_are_shown_as_they_are(label: str) -> None:
    shown = one_line(label)
    hostile = [row(f"agcam:{label}", 0.4, 0.2, 0.3, broken=[label]), Row(f"lrp:{label}", False, failed=label)]
    found = results(*hostile, about={"model": label, "data": label})
    text = markdown(found)
    widths = {"Localization, corrected protocol": 2, "Faithfulness": 3, "Cost": 3}
    for heading, (_, *rows) in tables(text).items():
        assert [one_line(cells[0][0]) for cells in rows] == [f"agcam:{shown}", f"lrp:{shown}"]
        assert {len(cells) for cells in rows} == {widths.get(heading, 2)}
    told = [one_line(plain(token)) for token in parse(text) if token.type == "inline"]
    assert f"lrp:{shown}: failed. {shown}" in told
    assert f"† agcam:{shown}: 1 heatmaps hold NaN or infinity, in no value: {shown}." in told
    assert any(line.startswith(f"{shown} · {shown} · 9 images") for line in told)
    assert not re.search(r"(?<!\\)\$", text)  # a formula on GitHub

    written = latex(found)
    for cells in latex_rows(written):
        assert one_line(read_latex(cells[0])) in (f"agcam:{shown}", f"lrp:{shown}")
        assert len(cells) in (2, 3)
    outside = re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "", written, flags=re.DOTALL).splitlines()
    assert all(line.startswith("%") for line in outside if line)


def test_a_table_appears_only_when_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.md"
    write("old", path)
    (tmp_path / f".results.md.{os.getpid()}.part").mkdir()
    with pytest.raises(OutputError, match=rf"{path}: cannot be written \(Is a directory\)"):
        write("new", path)
    assert path.read_text() == "old"


def test_names_of_any_bytes_are_written(tmp_path: Path) -> None:
    write("bad \udc80 name", tmp_path / "results.md")
    assert (tmp_path / "results.md").read_text(encoding="utf-8") == "bad \\udc80 name"
