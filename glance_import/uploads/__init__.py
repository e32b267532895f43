"""Uploads: the bytes of an image on their way into the staging area."""
