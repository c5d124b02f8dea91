"""Settings of Sphinx; `scripts/docs.sh` builds the pages."""

import restore

project = "restore"
author = "The restore authors"
copyright = "2026, the restore authors"
release = restore.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["results/studies*/records.json"]
html_theme = "furo"
html_title = "restore"
nb_execution_mode = "off"  # the notebook comes executed; a test makes it
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
suppress_warnings = ["myst.xref_missing", "myst.header", "ref.python"]
