"""What the bytes of an image are, and whether they are harmless.

Reads the file it is given, by bounded reads at known places, and nothing
else; knows neither images nor the database. The way in is
``inspection.inspect_format``.
"""
