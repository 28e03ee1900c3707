"""The site: `sphinx-build -W --keep-going -n -c docs . site` in the root of the repository.

Sphinx's source is the whole repository, of which it reads the Markdown named below. So every
relative link, also one to README.md or tests/README.md, means the same file on GitHub and on the
site, and nothing has to be rewritten. Nothing is fetched while building, nor by a page.
"""

from sphinx.application import Sphinx

project = "polyactors"
author = "The polyactors developers"
html_title = "polyactors"
html_theme = "furo"
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_extra_path = ["_site"]  # what the bare address of the site shows: the way to docs/index

extensions = ["myst_parser"]
root_doc = "docs/index"
source_suffix = {".md": "markdown"}
include_patterns = ["README.md", "CHANGELOG.md", "docs/**.md", "tests/**README.md"]
exclude_patterns = ["**/.*", ".*", "**/node_modules", "build", "dist", "site"]
highlight_language = "none"  # a block without a language is no Python
myst_heading_anchors = 4  # the anchors that GitHub gives to headings

CONTENTS = {
    "Tutorial": ("docs/tutorial/", ("first-live-book", "first-own-actor")),
    "How-to": (
        "docs/how-to/",
        ("use-from-python", "handle-stale-books", "write-an-actor", "record-and-analyse"),
    ),
    "Real time": (
        "docs/real-time/",
        ("README", "websocket-overview", "market-channel", "user-channel"),
    ),
    "Reference": ("docs/reference/", ("command-line", "configuration", "events", "errors")),
    "Explanation": (
        "docs/explanation/",
        ("trust", "how-a-book-stays-right", "what-can-be-detected", "architecture", "why-actors"),
    ),
    "The project": ("", ("README", "CHANGELOG", "tests/README")),
}
"""The side bar: by its headings, a folder and its pages that come first; the others follow."""


def add_contents(app: Sphinx, page: str, text: list[str]) -> None:
    """Append the side bar's contents to the first page; on GitHub they would only be in the way."""
    if page != root_doc:
        return
    left = app.env.found_docs - {root_doc}
    for caption, (folder, first) in CONTENTS.items():
        named = [folder + name for name in first]
        pages = named + sorted(one for one in left - {*named} if one.startswith(folder))
        left -= {*pages}
        listed = "\n".join("README </README>" if one == "README" else f"/{one}" for one in pages)
        text[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
