"""Flows: the steps of each kind of task, as taskflow patterns."""
