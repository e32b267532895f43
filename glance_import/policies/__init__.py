"""What each role may do: rules in code, one module a resource.

An operator overrides them in ``policy.yaml``. Nothing else in the package
knows a role by name except through these rules.
"""

from __future__ import annotations

from oslo_config import cfg
from oslo_policy import policy

from glance_import.policies import base
from glance_import.policies import images
from glance_import.policies import members
from glance_import.policies import metadefs
from glance_import.policies import rules_file
from glance_import.policies import tasks

MODULES = (base, images, members, metadefs, tasks)


def list_rules():
    """Every rule, for oslopolicy-sample-generator and the enforcer."""
    return [rule for module in MODULES for rule in module.RULES]


def new_enforcer(conf: cfg.ConfigOpts, *, asked: bool = True
                 ) -> rules_file.Enforcer:
    """An enforcer of these rules, overridden by the operator's file.

    :param asked: whether anybody is going to ask; where nobody is, a file
        that cannot be used does no harm, and no rule allows anything
    :raises rules_file.BrokenRules: that file cannot be used
    """
    return rules_file.Enforcer(conf, list_rules(), asked=asked)


def get_enforcer() -> policy.Enforcer:
    """For oslopolicy-checker and friends, which know no other way."""
    from glance_import import conf
    return new_enforcer(conf.load())
