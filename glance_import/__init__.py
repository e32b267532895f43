"""Interoperable image import for OpenStack: stage, import, active."""
