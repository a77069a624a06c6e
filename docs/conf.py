"""Configure Sphinx: the documentation site, which `tox run -e docs` builds."""

from __future__ import annotations

import re
from importlib.metadata import version as installed

project = "flowgauge"
author = "The flowgauge authors"
release = version = installed("flowgauge").partition("+")[0]
html_title = f"{project} {release}"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

# Markdown: links to headings work as on GitHub
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

# docstrings: a name in single backticks is a Python object where there is one, else code
default_role = "py:obj"
autosummary_generate = True
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}

smartquotes_action = "qe"  # quotes and ellipses: options keep their two hyphens

html_theme = "furo"
copyright = f"2026, {author}"
html_static_path = ["_static"]
html_css_files = ["site.css"]


def escape_bars(app, what, name, obj, options, lines: list[str]) -> None:
    """Show |x| as it is written: reStructuredText would take it for a substitution."""
    parts = re.split(r"(``.*?``)", "\n".join(lines), flags=re.S)
    parts[::2] = [text.replace("|", "\\|") for text in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def setup(app) -> None:
    app.connect("autodoc-process-docstring", escape_bars)
