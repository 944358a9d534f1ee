"""Links lead somewhere, as GitHub shows the pages; of other sites, only addresses are read."""

from urllib.parse import urlsplit

from common import ROOT


def test_links(page, pages):
    problems = []
    for line, address in page.links:
        if problem := judge(page, address, pages):
            problems.append(f"{page.name}:{line}: {address}: {problem}")
    assert not problems, "\n".join(problems)


def judge(page, address, pages) -> str:
    """Say what is wrong with a link; nothing if it is right."""
    parts = urlsplit(address)
    if parts.scheme:
        site = parts.scheme in ("http", "https") and "." in parts.netloc
        fine = (site or parts.scheme == "mailto") and " " not in address
        return "" if fine else "no address of the web"
    if address.startswith("/"):
        return "GitHub and the guide have other roots"
    target = (page.path.parent / parts.path).resolve() if parts.path else page.path
    if not target.exists():
        return "there is no such file"
    if not target.is_relative_to(ROOT):
        return "it leaves the repository"
    if parts.fragment:
        other = pages.get(target.relative_to(ROOT).as_posix())
        if other is None or parts.fragment not in other.anchors:
            return "there is no such heading"
    return ""


def test_every_picture_is_shown_and_small(pages):
    shown = {
        (page.path.parent / address).resolve()
        for page in pages.values()
        for _, address in page.links
    }
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture in shown, f"no page shows {picture.name}"
        assert picture.stat().st_size <= 200_000, f"{picture.name} is larger than 200 kB"


def test_every_page_of_the_guide_says_first_what_it_is_called(page):
    assert page.tokens[0].type == "heading_open"
    assert page.tokens[0].tag == "h1"
