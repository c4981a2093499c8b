"""Paper shows what the screen would, had one scrolled through it; long tables keep their heads; names are searched."""

from dataclasses import replace
from pathlib import Path

import made_up
import pytest
from browsing import Visit

from agcam.benchmark.tables import best_beside_controls
from agcam.report.write import write_report

_GREY = "return [...document.querySelectorAll('.card canvas')].filter((canvas) => canvas.width === 0).length"


@pytest.fixture(scope="module")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More images than a screen shows."""
    return write_report(made_up.benchmark(tmp_path_factory.mktemp("long"), [made_up.shown(i) for i in range(60)]))


def test_printing_draws_every_image(long_page: Path, visit: Visit) -> None:
    page = visit(long_page, height=400)
    assert page.js(_GREY) > 0  # else this proves nothing
    assert page.js(f"dispatchEvent(new Event('beforeprint')); {_GREY}") == 0
    last = "[...document.querySelectorAll('.card canvas')].at(-1)"
    values = page.js(f"return new Set({last}.getContext('2d').getImageData(0, 0, 200, 200).data).size")
    assert values > 50
    assert page.js(f"dispatchEvent(new Event('afterprint')); {_GREY}") > 0


def test_printed_names_of_images_and_classes_are_whole(tmp_path: Path, visit: Visit) -> None:
    names = ("Great Crested Flycatcher " * 4, "Yellow bellied Flycatcher " * 4)
    image = made_up.shown(0, name=f"{'long_' * 20}name.jpg", truth=names, predicted=names[0])
    shown = [replace(image, explained=name) for name in names]
    page = visit(write_report(made_up.benchmark(tmp_path, shown)), width=390)
    cut = "return [...document.querySelectorAll('.chips button, .caption b, .clamp')]"
    cut += ".filter((e) => e.scrollHeight > e.clientHeight + 1"
    cut += " || e.getBoundingClientRect().right > e.closest('.card').getBoundingClientRect().right).length"
    page.until(lambda: page.js(cut) > 1)  # else this proves nothing
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert page.js(cut) == 0
    finally:
        page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_head_of_a_long_table_stays_on_the_screen(long_page: Path, visit: Visit) -> None:
    page = visit(long_page, height=260)
    page.js("const s = document.querySelector('.scroll'); s.scrollIntoView(); s.scrollTop = s.scrollHeight")
    assert page.js("return document.querySelector('.scroll').scrollTop") > 50
    head = "document.querySelector('thead th:nth-child(2)').getBoundingClientRect().top"
    assert abs(page.js(f"return {head} - document.querySelector('.scroll').getBoundingClientRect().top")) < 3


def test_images_are_searched_by_name(long_page: Path, visit: Visit) -> None:
    page = visit(long_page)
    page.choose("#search", "0004")
    assert page.names() == ["00004", *(f"{i:05d}" for i in range(40, 50))]
    page.choose("#search", "nobody")
    page.one("#reset").click()
    assert len(page.names()) == 60


@pytest.mark.parametrize(
    ("values", "higher", "best"),
    [
        ([(0.4, False), (0.3, False), (0.2, True)], True, 0.4),
        ([(0.4, False), (0.3, False), (0.5, True)], True, None),
        ([(0.4, False), (0.3, False), (0.2, True)], False, None),
        ([(0.4, False), (float("nan"), True)], True, 0.4),
        ([(0.4, False)], None, None),
    ],
)
def test_nothing_below_a_control_is_best(
    values: list[tuple[float, bool]], higher: bool | None, best: float | None
) -> None:
    assert best_beside_controls(values, higher) == best
