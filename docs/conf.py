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
    "Tutorial": ["tutorial/*"],
    "How-to": ["how-to/use-from-python", "how-to/handle-stale-books", "how-to/*"],
    "Real time": ["real-time/*"],
    "Reference": ["reference/command-line", "reference/configuration", "reference/*"],
    "Explanation": ["explanation/architecture", "explanation/trust", "explanation/*"],
    "The project": ["/README", "/CHANGELOG", "/tests/README", "/tests/**/README"],
}
"""The side bar: by its headings, the pages in order. A pattern stands for those not yet named."""


def add_contents(_: Sphinx, page: str, text: list[str]) -> None:
    """Append the side bar's contents to the first page; on GitHub they would only be in the way."""
    if page == root_doc:
        for caption, pages in CONTENTS.items():
            options = f":hidden:\n:glob:\n:caption: {caption}\n"
            text[0] += f"\n```{{toctree}}\n{options}\n" + "\n".join(pages) + "\n```\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)
