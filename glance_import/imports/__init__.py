"""One import: asked for, claimed, run, recorded, ended."""
