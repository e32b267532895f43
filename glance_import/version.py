"""The version of the package, as it is installed."""

import importlib.metadata

DISTRIBUTION = 'glance-import'


def text() -> str:
    """Such as ``1.2.0``; ``unknown`` where nothing is installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return 'unknown'
