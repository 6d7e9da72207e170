"""Settings of the site for Sphinx. `scripts/build_site.py` copies this folder beside the pages and runs Sphinx."""

import importlib.metadata

project = "raf-lab"
author = "the raf-lab authors"
copyright = author  # the name that Sphinx reads
release = importlib.metadata.version("raflib")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_codeautolink",
    "docstrings",
    "mathml",
]
if not tags.has("brief"):
    extensions.append("sphinx.ext.viewcode")  # a page for each file of source code
exclude_patterns = ["_build"]
nitpicky = False
suppress_warnings = ["codeautolink", "mystnb.unknown_mime_type", "ref.python"]

nb_execution_mode = "off"  # the pages show what was executed before
nb_merge_streams = True
nb_render_markdown_format = "myst"  # the default shows no tables
nb_ipywidgets_js: dict[str, dict] = {}  # a widget needs a running kernel; nothing is loaded from the web
nb_mime_priority_overrides = [("html", "image/jpeg", 1), ("html", "image/png", 2)]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "undoc-members": False}
default_role = "py:obj"  # a name in backticks links to its entry, where there is one
python_use_unqualified_type_names = True
napoleon_google_docstring = True
# One entry may name several arguments or fields, which Sphinx's typed lists cannot show.
napoleon_use_param = False
napoleon_custom_sections = [("Attributes", "params_style")]
codeautolink_concat_default = True

html_theme = "furo"
html_title = "raf-lab"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_search_summary = False  # a page opened from disk may not read other pages
html_theme_options = {"navigation_with_keys": True}
