"""How Sphinx builds the release notes; reno reads them from git."""

project = 'glance-import release notes'
copyright = 'the glance-import contributors'
html_title = 'glance-import release notes'
html_theme = 'furo'
extensions = ['reno.sphinxext']
