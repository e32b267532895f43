"""Stores: where the bytes of active images are kept."""
