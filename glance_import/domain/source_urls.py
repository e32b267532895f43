"""Whether a URL that a request names may be followed.

Puts the operator's options before the net package. Touches nothing.
"""

from __future__ import annotations

from oslo_config import cfg

from glance_import import errors
from glance_import.net import options as net_options
from glance_import.net import urls


def check(conf: cfg.ConfigOpts, uri: str) -> None:
    """:raises errors.Invalid: the URL may not be followed"""
    try:
        net_options.url_filter(conf).check(uri)
    except urls.UrlRefused as refusal:
        raise errors.Invalid(
            f'Images cannot be downloaded from this URL: {refusal}.'
        ) from refusal
