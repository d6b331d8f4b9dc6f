"""Settings of Sphinx. `make docs` builds the site into out/docs."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import scoresde  # before torch: it decides how threads wait

project = "scoresde"
author = "The scoresde developers"
copyright = "The scoresde developers, MIT licence"
version = release = scoresde.__version__
language = "en"

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinxcontrib.bibtex",
    "docs.pages.docstrings",
    "docs.pages.mathml",
]
default_role = "code"
nitpicky = False

# docstrings
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False

# Markdown and notebooks, which are shown as they were run last
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath", "html_image"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_merge_streams = True

bibtex_bibfiles = [str(Path(__file__).parents[1] / "references.bib")]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"
suppress_warnings = ["bibtex.missing_field"]

# the page
html_theme = "furo"
html_title = "scoresde"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_math_renderer = "mathml"
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#0b6e69",
        "color-brand-content": "#0b6e69",
        "color-brand-visited": "#0b6e69",
    },
    "dark_css_variables": {
        "color-brand-primary": "#5cc8c0",
        "color-brand-content": "#5cc8c0",
        "color-brand-visited": "#5cc8c0",
    },
}
pygments_style = "friendly"
pygments_dark_style = "monokai"
copybutton_exclude = ".linenos, .gp, .go"
