"""How Sphinx builds the documentation."""

project = 'glance-import'
copyright = 'the glance-import contributors'
html_title = 'glance-import'
html_theme = 'furo'
extensions = []
nitpicky = True
# A .. code-block:: that Pygments cannot read is a warning, so an error.
highlight_language = 'none'
