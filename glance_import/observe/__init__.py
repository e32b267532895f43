"""What happens in the service, told once: to the log, metrics, notifications.

Whoever knows that something has happened hands one event (``events``) to the
``channel`` of the process, and need not know who listens. This package knows
options and the directory of the node's state, and nothing above them.
"""
