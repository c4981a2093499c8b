"""Every control changes what it should."""

from pathlib import Path

import made_up
import numpy as np
import torch
from browsing import Visit
from selenium.webdriver.common.keys import Keys

from agcam.io.explained_images import read_panel
from agcam.metrics.faithfulness.perturbation import rank_pixels
from agcam.visualization import overlay as render


def test_the_overlay_is_the_projects_own(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    page.one("#boxes").click()
    panel, _ = read_panel(benchmark_page.parent / "panel")
    for number, shown in enumerate(panel[:6]):
        found = page.pixels(f".card:nth-child({number + 1}) canvas")
        large = shown.image.repeat(4, 0).repeat(4, 1)  # for 64 pixels are too few to look at
        wanted = render.overlay(large, shown.heatmaps["agcam"])
        assert np.abs(found.astype(int) - wanted).max() <= 4


def test_method_heat_boxes_and_outlines_change_the_picture(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    assert page.changes(lambda: page.choose("#method", 1))
    assert page.changes(lambda: page.choose("#opacity", 0.3))
    assert page.text('[data-show="opacity"]') == "30 %"
    assert page.changes(page.one("#boxes").click)
    assert page.changes(page.one("#masks").click)
    assert page.changes(page.one("#masks").click)
    assert page.changes(lambda: page.choose("#opacity", 0))
    assert np.abs(page.pixels()[::4, ::4].astype(int) - made_up.shown(0).image).mean() < 2


def test_images_are_filtered(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    everything = [f"{i:05d}" for i in range(12)]
    assert page.names() == everything
    expected = {
        "wrong": [everything[i] for i in (0, 4, 8)],
        "right": [everything[i] for i in range(12) if i not in (0, 4, 8)],
        "reason": [everything[i] for i in (3, 6, 9)],
        "all": everything,
    }
    for outcome, names in expected.items():
        page.choose("#outcome", outcome)
        assert page.names() == names
        assert page.text("#count") == f"{len(names)} of 12 images"
    page.choose("#class", "dog")
    assert page.names() == [everything[i] for i in (0, 4, 8)]
    page.choose("#method", 2)
    page.choose("#outcome", "wrong")
    page.choose("#class", "")
    assert page.names() == [everything[i] for i in (0, 4, 8)]


def test_an_empty_choice_says_so_and_is_undone(run_page: Path, visit: Visit) -> None:
    page = visit(run_page)
    page.choose("#outcome", "wrong")
    assert page.names() == []
    assert "No image fits" in page.text("#nothing")
    page.one("#reset").click()
    assert len(page.names()) == 4
    assert not page.all("#nothing")


def test_images_are_sorted_by_any_figure(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    for method in (0, 1):
        page.choose("#method", method)
        for figure in ("localization/iou", "abpc"):
            values = {f"{i:05d}": made_up.shown(i).figures[made_up.METHODS[method]][figure] for i in range(12)}
            page.choose("#sort", figure)
            assert page.names() == sorted(values, key=lambda name: values[name])
    page.one("#direction").click()
    assert page.names() == sorted(values, key=lambda name: -values[name])
    page.until(lambda: f"Faithfulness (ABPC): {values[page.names()[0]]:.3f}".rstrip("0") in page.text(".caption"))
    page.choose("#sort", "order")
    assert page.names() == [f"{i:05d}" for i in range(11, -1, -1)]


def test_classes_of_an_image_are_switched(classes_page: Path, visit: Visit) -> None:
    page = visit(classes_page)
    page.until(lambda: len(page.all(".card .chips button")) == 8)
    cat, dog = page.all(".card .chips button")[:2]
    assert (cat.text, dog.text) == ("cat", "dog")
    assert page.changes(dog.click)
    page.until(lambda: page.js("return document.activeElement.textContent") == "dog")
    assert page.js("return document.activeElement.ariaPressed") == "true"
    page.until(lambda: "wrong" in page.text(".caption"))


def test_each_of_several_classes_is_right_or_wrong(classes_page: Path, visit: Visit) -> None:
    page = visit(classes_page)
    page.choose("#class", "dog")  # shows the heatmaps of dogs, too
    for outcome, names in {"wrong": [0, 1], "right": [2, 3], "reason": [2]}.items():
        page.choose("#outcome", outcome)
        assert page.names() == [f"{i:05d}" for i in names]
    assert "more than 50 %" in page.js("return document.querySelector('#outcome-why').dataset.why")


def test_epochs_are_gone_through(run_page: Path, visit: Visit) -> None:
    page = visit(run_page)
    assert page.text('[data-show="frame"]') == "epoch 4"
    assert page.text("#count") == "4 of 4 images"
    mark = "return document.querySelector('.now').getAttribute('x1')"
    last = page.js(mark)
    page.choose("#sort", "order")
    page.one("#direction").click()
    page.one("#direction").click()
    assert page.changes(lambda: page.choose("#frame", 1), ".card:nth-child(3) canvas")
    assert page.js(mark) != last
    assert page.text("#count") == "3 of 3 images (1 not explained in epoch 2)"
    page.choose("#outcome", "reason")
    assert page.names() == ["00002"]
    page.choose("#frame", 0)
    assert page.names() == ["00001", "00002"]


def test_epochs_play(run_page: Path, visit: Visit) -> None:
    page = visit(run_page)
    page.one("#play-epochs").click()
    seen = [page.text('[data-show="frame"]')]
    assert seen == ["epoch 1"]
    assert page.one("#play-epochs").accessible_name == "Stop"
    page.until(lambda: page.text('[data-show="frame"]') == "epoch 4")
    page.until(lambda: page.one("#play-epochs").accessible_name == "Play the epochs")


def test_a_closer_look_by_keyboard(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    first = page.one(".card .open")
    page.js("arguments[0].focus()", first)
    first.send_keys(Keys.ARROW_RIGHT)
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_UP)
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert page.text("#detail-name") == "00001.jpg"
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.text("#detail-name") == "00002.jpg"
    page.driver.switch_to.active_element.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert page.text("#detail-name") == "00000.jpg"
    assert not page.one("#previous").is_enabled()
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.all("dialog"))
    assert "00000" in page.driver.switch_to.active_element.accessible_name


def test_the_closer_look_follows_its_controls(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    page.one(".card .open").click()
    assert page.changes(page.all(".thumb")[1].click, "#hot")
    assert page.js("return document.activeElement.className") == "thumb"
    assert page.js("return document.querySelector('#method').value") == "1"
    assert page.changes(lambda: page.choose("#detail-opacity", 0.2), "#hot")
    assert page.changes(page.one('dialog [data-bind="boxes"]').click, "#plain")
    assert page.changes(page.one('dialog [data-bind="masks"]').click, "#hot")
    assert page.one("#masks").is_selected()
    rows = [row.text.split() for row in page.all("dialog tbody tr")]
    assert [row[-3:] for row in rows] == [
        [f"{made_up.shown(0).figures[m][f]:.3f}" for m in made_up.METHODS] for f in ("localization/iou", "abpc")
    ]


def test_a_closer_look_goes_through_epochs_and_classes(run_page: Path, classes_page: Path, visit: Visit) -> None:
    page = visit(run_page)
    page.all(".card .open")[2].click()
    assert page.changes(page.all(".strip")[1].find_elements("css selector", ".thumb")[0].click, "#hot")
    assert page.text('[data-show="frame"]') == "epoch 1"
    page = visit(classes_page)
    page.one(".card .open").click()
    assert page.changes(page.all("dialog .chips button")[1].click, "#hot")
    assert "dog" in page.text("dialog dl")


def test_the_probability_falls_as_pixels_go(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    page.all(".card .open")[1].click()
    shown = made_up.shown(1)
    places = rank_pixels(torch.from_numpy(shown.heatmaps["agcam"])[None], (64, 64))
    for order, place in zip(("morf", "lerf"), places, strict=True):
        page.one(f'[data-order="{order}"]').click()
        for step in (0, 1, 3, 10):
            probability = shown.curves["agcam"][order][step]
            wanted = f"{100 * probability:.{int(probability < 0.1)}f} %"
            page.choose("#removed", step)
            page.until(lambda wanted=wanted: f"gives cat {wanted}" in page.text("#removed-text"))
            count = 64 * 64 * step // 10

            def gone() -> np.ndarray:
                return (page.pixels("dialog .player canvas") == [255, 0, 0]).all(2)

            page.until(lambda count=count: gone().sum() == count)
            # as measured; heatmaps are rounded on their way, so the order of almost equal pixels may differ
            assert (gone() == (place[0] < count).numpy()).mean() > 0.99
    page.choose("#removed", 0)
    page.one('[aria-label="Play the removal"]').click()
    page.until(lambda: page.js("return document.querySelector('#removed').value") in ("2", "3"))


def test_the_table_marks_the_best_and_the_notes_tell_the_rest(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    assert [e.text for e in page.all("#figures strong")] == ["0.500", "0.300"]
    assert "0.400 – 0.600" in page.text("#figures td")
    notes = " ".join(e.text for e in page.all("#figures .note"))
    assert "no such layer" in notes
    assert "pxap: not measured, the data have no masks" in notes
    assert [e.text for e in page.all("#figures thead .method")][-1] == "random (control)"
    hrefs = [a.get_dom_attribute("href") for a in page.all("#files a")]
    assert hrefs == ["results.md", "results.json", "panel/"]
    assert all((benchmark_page.parent / href).exists() for href in hrefs)


def test_charts_are_read_and_their_lines_hidden(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    assert len(page.all("#charts .chart")) == 2
    assert len(page.all("#charts .chart:first-child > svg path")) == 3
    assert page.js("return document.querySelectorAll('#charts path.thick').length") == 2
    button = page.one("#charts .legend button")
    page.js("arguments[0].click()", button)
    assert len(page.all("#charts .chart:first-child > svg path")) == 2
    page.js(
        "const svg = document.querySelector('#charts svg'); const box = svg.getBoundingClientRect();"
        "svg.dispatchEvent(new PointerEvent('pointermove', {clientX: box.left + box.width / 2, clientY: box.top}))"
    )
    assert page.js("return document.querySelector('#charts output').textContent") == "0.5"
    page.js("document.querySelector('#charts summary').click()")
    page.until(lambda: len(page.all("#charts details tr")) == 12)
    page.choose("#method", 1)
    assert page.js("return document.querySelector('#charts path.thick').getAttribute('stroke')") == "#CF5D03"


def test_every_question_mark_answers(benchmark_page: Path, visit: Visit) -> None:
    page = visit(benchmark_page)
    page.one("#figures-title .why").click()
    page.until(lambda: page.all("#tip"))
    assert "arrow" in page.text("#tip")
    page.js("dispatchEvent(new Event('scroll'))")  # one that ended before the click, told of late
    assert page.all("#tip")
    page.js("scrollBy(0, 50)")
    page.until(lambda: not page.all("#tip"))
    page.one("#figures-title .why").click()
    page.until(lambda: page.all("#tip"))
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.all("#tip"))
    page.one(".card .open").click()
    page.one("dialog .why").click()
    page.until(lambda: page.all("#tip"))
    assert "data set" in page.text("#tip")
    page.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: not page.all("#tip"))
    assert page.all("dialog")  # one key, one thing closed
    assert page.js("return [...document.querySelectorAll('.why')].every((b) => b.dataset.why.length > 10)")
