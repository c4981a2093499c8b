"""The page opens anywhere: from disk, at any size, in any colours, with any names and a thousand images."""

from pathlib import Path

import pytest
from browsing import HOSTILE, Visit
from selenium.common.exceptions import NoAlertPresentException

PAGES = ["benchmark_page", "run_page", "hostile_page", "bare_page"]


@pytest.fixture(params=PAGES)
def any_page(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def test_it_opens_from_disk_and_loads_nothing(any_page: Path, visit: Visit) -> None:
    page = visit(any_page)
    assert page.driver.current_url.startswith("file://")
    page.drawing()
    loaded = page.js("return performance.getEntriesByType('resource').map((e) => e.name)")
    assert all(name.startswith("data:") for name in loaded)
    policy = page.js("return document.querySelector('meta[http-equiv]').content")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy


def test_it_fits_a_phone(any_page: Path, visit: Visit) -> None:
    page = visit(any_page, 390, 844)
    page.drawing()
    width = "return [document.documentElement.scrollWidth, document.body.scrollWidth]"
    assert max(page.js(width)) <= 390
    page.one(".card .open").click()
    page.drawing("#hot")
    assert page.js("const b = document.querySelector('dialog .body'); return b.scrollWidth - b.clientWidth") <= 0
    assert max(page.js(width)) <= 390


def test_everything_has_a_name_for_screen_readers(any_page: Path, visit: Visit) -> None:
    page = visit(any_page)
    page.drawing()
    roles = {"button", "combobox", "slider", "checkbox", "link", "img", "region", "dialog"}
    for looking_closer in (False, True):
        if looking_closer:
            page.one(".card .open").click()
            page.drawing("#hot")
        nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        found = [n for n in nodes if not n["ignored"] and n["role"]["value"] in roles]
        assert len(found) > 5
        assert [n for n in found if not n.get("name", {}).get("value", "").strip()] == []


def test_light_and_dark(benchmark_page: Path, visit: Visit) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    light = visit(benchmark_page, prefers_color_scheme="light").js(paper)
    page = visit(benchmark_page, prefers_color_scheme="dark")
    dark = page.js(paper)
    assert dark != light
    page.one("#theme").click()
    assert page.js(paper) == light
    page.driver.refresh()
    assert page.js(paper) == light  # remembered
    page.one("#theme").click()
    assert page.js(paper) == dark


def test_text_can_be_read_in_both_colours(benchmark_page: Path, visit: Visit) -> None:
    contrast = """
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const light = (color) => {
      canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
      const linear = (c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
      const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((c) => linear(c / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const ground = (e) => {
      while (e && getComputedStyle(e).backgroundColor === "rgba(0, 0, 0, 0)") e = e.parentElement;
      return getComputedStyle(e ?? document.body).backgroundColor;
    };
    const texts = document.querySelectorAll("p, dt, dd, td, th, a, .verdict, small, button:not(.open, .thumb), label");
    return [...texts].map((e) => {
      const pair = [light(getComputedStyle(e).color), light(ground(e))];
      return [Math.max(...pair) / Math.min(...pair), e.outerHTML.slice(0, 80)];
    }).sort((a, b) => a[0] - b[0])[0]
    """
    for scheme in ("light", "dark"):
        page = visit(benchmark_page, prefers_color_scheme=scheme)
        page.drawing()
        worst, where = page.js(contrast)
        assert worst >= 4.5, (scheme, where)


def test_nothing_moves_for_those_who_ask(benchmark_page: Path, visit: Visit) -> None:
    moving = """
    const style = (selector) => getComputedStyle(document.querySelector(selector));
    return [style("html").scrollBehavior, style("button").transitionDuration]
    """
    assert visit(benchmark_page, prefers_reduced_motion="reduce").js(moving) == ["auto", "0s"]
    assert visit(benchmark_page, prefers_reduced_motion="no-preference").js(moving)[0] == "smooth"


def test_hostile_names_are_only_names(hostile_page: Path, visit: Visit) -> None:
    page = visit(hostile_page)
    page.drawing()
    with pytest.raises(NoAlertPresentException):
        _ = page.driver.switch_to.alert
    assert page.js("return document.querySelectorAll('script').length") == 2
    assert page.js("return document.querySelectorAll('main img, main svg[onload], b b').length") == 0
    assert HOSTILE[0] in page.text("h1")
    heads = page.js("return [...document.querySelectorAll('#figures .method')].map((e) => e.textContent)")
    assert heads[: len(HOSTILE) - 1] == list(HOSTILE[:-1])
    for number, name in enumerate(HOSTILE[:-1]):
        page.until(lambda n=number: page.all(".card")[n].text)
        found = page.js("return document.querySelectorAll('.caption b')[arguments[0]].textContent", number)
        last = name.rpartition("/")[2]
        assert found == (last if len(last) < 200 else last[:200] + "…")
    classes = page.js("return [...document.querySelectorAll('#class option')].map((o) => o.value.toWellFormed())")
    assert set(HOSTILE[:-1]) <= set(classes)
    page.choose("#class", HOSTILE[1])
    assert page.text("#count") == "1 of 7 images"
    page.one(".card .open").click()
    page.drawing("#hot")
    assert HOSTILE[1] in page.text("dialog dl")
    href = page.js("return document.querySelector('#files a').href")
    assert href == (hostile_page.parent / "results.md").as_uri()


def test_right_to_left_names_keep_their_direction(hostile_page: Path, visit: Visit) -> None:
    page = visit(hostile_page)
    page.drawing(".card:nth-child(4) canvas")
    caption = page.all(".caption b")[3]
    assert page.js("return getComputedStyle(arguments[0]).direction", caption) == "rtl"
    assert page.js("return getComputedStyle(document.querySelector('.caption b')).direction") == "ltr"


def test_a_thousand_images_stay_usable(thousand_page: Path, visit: Visit) -> None:
    page = visit(thousand_page)
    page.drawing()
    drawn = "return [...document.querySelectorAll('.card canvas')].filter((c) => c.width > 0).length"
    assert page.js("return document.querySelectorAll('.card').length") == 1000
    assert 0 < page.js(drawn) < 60
    paint = page.js("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 10_000  # under a second on a machine of one's own
    page.js("document.documentElement.style.scrollBehavior = 'auto'; scrollTo(0, document.body.scrollHeight)")
    page.until(lambda: page.js("return [...document.querySelectorAll('.card canvas')].at(-1).width > 0"))
    page.until(lambda: page.js("return document.querySelector('.card canvas').width === 0"))  # memory given back
    assert page.js(drawn) < 80
    page.js("scrollTo(0, 0)")
    took = page.js(
        "const select = document.querySelector('#sort'); select.value = 'abpc'; const start = performance.now();"
        "select.dispatchEvent(new Event('input')); return performance.now() - start"
    )
    assert took < 3_000
    page.choose("#outcome", "reason")
    assert page.text("#count") == "500 of 1,000 images"


def test_nothing_is_said_of_what_was_never_asked(bare_page: Path, visit: Visit) -> None:
    page = visit(bare_page)
    page.drawing()
    assert not page.all("#absent, #outcome, #method, #frame, #boxes, #masks")
    page.one(".card .open").click()
    text = page.text("dialog")
    for missing in ("No box", "no box", "agcam benchmark", "measured", "Take pixels away", "Figures of this image"):
        assert missing not in text
