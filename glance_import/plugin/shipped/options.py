"""The sections of the shipped plugins, for the sample configuration file.

The one place that imports a plugin into a process of the service's: they are
ours, and this runs only when the sample is written.
"""

from __future__ import annotations

from oslo_config import cfg

from glance_import.conf import plugins as conf_plugins
from glance_import.plugin import check
from glance_import.plugin.shipped import clamav
from glance_import.plugin.shipped import digest_list
from glance_import.plugin.shipped import format_report
from glance_import.plugin.shipped import property_policy

SHIPPED = {
    'clamav': clamav.ClamAV,
    'digest_list': digest_list.DigestList,
    'property_policy': property_policy.PropertyPolicy,
    'format_report': format_report.FormatReport,
}


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """For oslo-config-generator: each section as its plugin has it."""
    return [(section, [*conf_plugins.OPTS, *conf_plugins.declared(
        check.describe(cls)['options'])]) for section, cls in SHIPPED.items()]
