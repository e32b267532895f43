"""What the service itself has done inside a sandbox, by its own classes.

They are shaped like plugins, since that is what a sandbox runs, but nobody
lists them: the bundled get_flow plugins and the domain start them.
"""
