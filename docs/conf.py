"""How Sphinx builds these pages: ``make docs``; a warning is an error."""

from chatstream import __version__

project = "chatstream"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "py:obj"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Chat Completions, streamed into a plain for loop", "fixed_sidebar": True}
