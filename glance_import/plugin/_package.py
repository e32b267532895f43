"""Stands for the package glance_import inside a sandbox: it is empty there.

The real one prepares the service's libraries, which no plugin has.
"""
