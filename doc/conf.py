"""Configuration of Sphinx."""

from __future__ import annotations

import gnocchi

project = "Gnocchi"
author = "The Gnocchi developers"
copyright = author
version = release = gnocchi.__version__

extensions: list[str] = []
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Multi-tenant metrics database", "page_width": "60em"}
html_show_sourcelink = False
