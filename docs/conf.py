"""How Sphinx makes the guide of these pages: `just docs`."""  # noqa: INP001 - Sphinx reads it as a file

import re

from sphinx.application import Sphinx

project = "Rookery"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
exclude_patterns = ["_static"]

# a name of an own after every heading down to the fourth, as GitHub makes them
myst_heading_anchors = 4
# fences that GitHub draws as diagrams too
myst_fence_as_directive = ["mermaid"]

html_theme = "furo"
html_title = "Rookery"
html_static_path = ["_static"]
html_css_files = ["guide.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False

# a page asks nobody but the server that it came from
mermaid_use_local = "mermaid.mjs"
mermaid_fullscreen = False
mermaid_height = "auto"
mermaid_init_config = {"startOnLoad": False, "securityLevel": "strict"}


def adapt_links(app: Sphinx, page: str, source: list[str]) -> None:
    """Adapt links to what lies beyond docs/, which GitHub can show and the guide cannot.

    Files become downloads by themselves; of a folder, and of a page of Markdown, the text stays.
    """
    here = app.env.doc2path(page).parent

    def replace(link: re.Match[str]) -> str:
        target = (here / link[2]).resolve()
        if target.is_relative_to(app.srcdir):
            return link[0]
        return link[1] if target.is_dir() or target.suffix == ".md" else link[0]

    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)#]*)(?:#[^)]*)?\)", replace, source[0])


def setup(app: Sphinx) -> None:
    """Connect what Sphinx is to call."""
    app.connect("source-read", adapt_links)
