"""Tall photographs leave no empty space, wide tables show no cut column, and each of many methods has its color."""

import itertools
import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import made_up
import numpy as np
import pytest
from browsing import Visit

from agcam.report.model import Frame, Report
from agcam.report.page import render, write
from agcam.report.write import write_report

_CUT = """
const scroll = document.querySelector('#figures .scroll');
scroll.scrollLeft = arguments[0];
const box = scroll.getBoundingClientRect();
const first = scroll.querySelector('thead th').getBoundingClientRect();
return [...scroll.querySelectorAll('thead th')].slice(1).map((e) => e.getBoundingClientRect()).filter(
  (e) => e.left < box.left + scroll.clientWidth - 2 && e.right > box.left + scroll.clientWidth + 2
      || e.left < first.right - 2 && e.right > first.right + 2
).length
"""


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("scrolled", [0, 5000])
def test_no_column_of_a_wide_table_is_cut(scrolled: int, width: int, tmp_path: Path, visit: Visit) -> None:
    methods = ("agcam", *(f"method_number_{n}:option={n}" for n in range(14)), "random")
    page = visit(write_report(made_up.benchmark(tmp_path, [made_up.shown(0)], methods=methods)), width, 900)
    assert page.js(_CUT, scrolled) == 0
    assert "scroll sideways" in page.text("#figures .more")


def test_tall_photographs_leave_no_empty_space(tmp_path: Path, visit: Visit) -> None:
    square = made_up.shown(0, curves=False)
    tall = [replace(made_up.shown(n, objects=False), image=np.full((120, 70, 3), 90, np.uint8)) for n in (1, 2)]
    path = tmp_path / "report.html"
    write(render(Report("images", "Photographs", [], [Frame("x", None, [square, *tall])]), path), path)
    page = visit(path)
    page.drawing()
    boxes = "[...document.querySelectorAll('.card canvas:first-child')].map((e) => e.getBoundingClientRect())"
    heights = page.js(f"return {boxes}.map((e) => e.height)")
    assert max(heights) - min(heights) < 2
    assert page.js(f"return {boxes}.map((e) => e.width / e.height)[1]") == pytest.approx(70 / 120, rel=0.05)


def _lab(color: str) -> np.ndarray:
    rgb = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / [0.9505, 1.0, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_fourteen_methods_have_colors_that_are_told_apart() -> None:
    script = (resources.files("agcam.report") / "assets" / "js" / "charts.js").read_text(encoding="utf-8")
    colors = re.findall(r"#[0-9A-F]{6}", script.partition("PALETTE")[2].partition(";")[0])
    assert len(colors) == 14
    assert min(np.linalg.norm(_lab(a) - _lab(b)) for a, b in itertools.combinations(colors, 2)) > 30
