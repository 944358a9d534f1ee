"""The guide in a real browser: it asks nobody else, draws its diagrams, and can be read."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, expect

from common import ROOT
from scripts import guide, pictures

pytestmark = [
    pytest.mark.browser,
    pytest.mark.integration,
    # of an extension, for a version of Sphinx that is not out yet
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]

SIZES = {"desk": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 800}}
# WCAG's least contrast of text
CONTRAST = 4.5


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip(pictures.INSTALL)
    with pictures.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def folder(browser, tmp_path_factory) -> Path:
    built = tmp_path_factory.mktemp("guide")
    guide.build(built)
    return built


@pytest.fixture(scope="module")
def address(folder, free_port) -> Iterator[str]:
    port = free_port()
    with guide.make_server(folder, port) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page(browser, folder, address, size, scheme):
    files = sorted(path.relative_to(guide.SOURCE) for path in guide.SOURCE.rglob("*.md"))
    assert files
    context = browser.new_context(viewport=SIZES[size], color_scheme=scheme)
    page = context.new_page()
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda told: told.type == "error" and wrong.append(told.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    for file in files:
        page.goto(f"{address}/{file.with_suffix('.html')}")
        diagrams = (guide.SOURCE / file).read_text(encoding="utf-8").count("```mermaid")
        expect(page.locator("pre.mermaid")).to_have_count(diagrams)
        expect(page.locator("pre.mermaid > svg")).to_have_count(diagrams)
        expect(page.locator("pre.mermaid > svg[aria-roledescription=error]")).to_have_count(0)
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(overflow) == 0, file
    assert {urlsplit(url).scheme for url in asked} <= {"http", "data", "blob"}
    others = [url for url in asked if url.startswith("http") and not url.startswith(address)]
    assert others == []
    assert wrong == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_diagram_can_be_read(browser, address, scheme):
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    label = page.locator("pre.mermaid > svg .node .nodeLabel").first
    expect(label).to_be_visible()
    text = label.evaluate("node => getComputedStyle(node).color")
    shape = label.evaluate(
        "node => getComputedStyle(node.closest('.node').querySelector('path, rect')).fill"
    )
    assert contrast(luminance(text), luminance(shape)) >= CONTRAST
    context.close()


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, from 0 to 1, as WCAG 2 defines it."""
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: float, other: float) -> float:
    low, high = sorted((one, other))
    return (high + 0.05) / (low + 0.05)


def test_search_finds_a_page(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/search.html?q=rollback")
    expect(page.locator("#search-results li").first).to_be_visible()
    page.close()


def test_diagrams_of_the_readme_are_drawn_too(browser, address):
    """GitHub draws them; here the guide's own script does."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    codes = [part.split("```")[0] for part in text.split("```mermaid\n")[1:]]
    assert codes
    page = browser.new_page()
    page.goto(address)
    page.evaluate(
        "async codes => { const { default: mermaid } = await import('/_static/mermaid.mjs');"
        " for (const code of codes) await mermaid.parse(code); }",
        codes,
    )
    page.close()
