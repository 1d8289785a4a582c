"""How Sphinx builds these pages: `tox run -e docs`."""

from __future__ import annotations

import inspect
import re
from typing import Any

from dtype_sampler import __version__

project = "pytest-dtype-sampler"
copyright = "The pytest-dtype-sampler developers"  # noqa: A001 - Sphinx's name for it
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
nitpicky = True
# Types of others, which are no pages here.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|collections|typing|pytest)\..*|T(_co)?|T|k|int|None|str")
]

# The macros of Grafana are no SQL to Pygments. What blocks say is held to by tests/docs.
suppress_warnings = ["misc.highlighting_failure"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Docstrings put names in single backquotes.
default_role = "literal"
autodoc_typehints = "none"
autodoc_member_order = "bysource"

html_theme = "furo"
html_title = "pytest-dtype-sampler"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}


def fields(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Make fields of the lines of a docstring that begin with an argument's name: `k: how many`."""
    try:
        arguments = inspect.signature(thing).parameters
    except (TypeError, ValueError):
        return
    for number, line in enumerate(lines):
        found = re.match(r"(\w+): ", line)
        if found and found[1] in arguments:
            lines[number] = f":param {line}"
        elif number and lines[number - 1].startswith((":param", "    ")) and line:
            lines[number] = f"    {line}"
    # A field list wants a blank line before it, and none between its lines.
    for number in range(len(lines) - 1, 0, -1):
        if (
            lines[number].startswith(":param")
            and lines[number - 1]
            and not re.match(":param|    ", lines[number - 1])
        ):
            lines.insert(number, "")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", fields)
