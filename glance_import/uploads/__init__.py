"""Receiving the bytes of an image, whichever way they come."""
