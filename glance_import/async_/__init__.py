"""The names under which operators and authors of plugins know the flow.

Glance calls this package ``async_``; what happens after the 202 is in
glance_import.imports.
"""
