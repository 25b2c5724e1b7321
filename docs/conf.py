"""How the site is built: `python -m sphinx -W --keep-going -b html docs docs/_build`."""

from __future__ import annotations

import os
import re
import sys
from functools import partialmethod
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from sphinx.application import Sphinx

from vaefast import __version__

ROOT = Path(__file__).parent.parent
# Pages whose text is a file at the root of the repository, where a reader of the sources looks for it.
ROOT_PAGES = {"derivation": "DERIVATION.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
# What scikit-learn adds to every estimator; it is described there.
SKLEARN = re.compile("get_metadata_routing|get_params|set_params|set_output|set_[a-z_]+_request")

project = "vaefast"
author = "the authors of vaefast"
project_copyright = f"2026, {author}"
version = release = __version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxarg.ext",
]
exclude_patterns = ["_build", "jupyter_execute"]
nitpicky = False
default_role = "literal"  # `x` in a docstring is code
smartquotes = False  # they would make one dash of the two of a flag

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Notebooks are executed at every build, without the network. An error in a cell ends the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_execution_show_tb = True
nb_execution_timeout = 600
# The output of a command arrives in pieces of 100 bytes. MyST-NB has no setting that joins them.
NotebookClient.__init__ = partialmethod(NotebookClient.__init__, coalesce_streams=True)
os.environ["VAEFAST_OFFLINE"] = "1"
os.environ["NO_COLOR"] = "1"
os.environ.setdefault("VAEFAST_NUM_THREADS", "1")  # as fast as two for models this small, and steady beside other programs
# The commands in a notebook are those of the Python that builds the site, whether its environment is active or not.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])

autodoc_typehints = "none"  # the docstrings say it, with shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "pydata_sphinx_theme"
html_title = f"vaefast {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_sidebars = {page: [] for page in ("index", "performance", "reliability")}  # there is no page below these
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}


def read_root_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the text of a file at the root in the place of the page that stands for it.

    A link to another such file becomes one to its page. A link to a source file or a folder becomes its name.
    """
    if docname not in ROOT_PAGES:
        return
    pages = {name: f"{page}.md" for page, name in ROOT_PAGES.items()}

    def on_the_site(link: re.Match[str]) -> str:
        text, target = link.groups()
        if target in pages:
            return f"[{text}]({pages[target]})"
        if target.startswith("docs/"):
            return f"[{text}]({target.removeprefix('docs/')})"
        return f"`{text.replace('`', '').replace(chr(92), '')}`" if (ROOT / target).exists() else link[0]

    text = (ROOT / ROOT_PAGES[docname]).read_text(encoding="utf-8")
    app.env.note_dependency(str(ROOT / ROOT_PAGES[docname]))
    source[0] = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", on_the_site, text)


def skip_member(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out the methods that scikit-learn adds."""
    return True if SKLEARN.fullmatch(name) else None


def setup(app: Sphinx) -> None:
    """Connect the functions above to the build."""
    app.connect("source-read", read_root_page)
    app.connect("autodoc-skip-member", skip_member)
