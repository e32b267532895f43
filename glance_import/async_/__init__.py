"""What happens after the 202: conductors, flows and their plugins.

(The guide's name for this package is ``async``, a reserved word since
Python 3.7.)
"""
