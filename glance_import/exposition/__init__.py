"""Serving metrics: what was counted, and how things stand at the moment."""
