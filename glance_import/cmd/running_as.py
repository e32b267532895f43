"""As whom an operator's command works: as the service's own user.

What root makes, the service could not open afterwards. So a command that is
run as root becomes the owner of ``state_path``, and others than that owner
are refused. Touches who this process is.
"""

from __future__ import annotations

import os
import pwd

from oslo_config import cfg

from glance_import import state


class WrongUser(Exception):
    """The command cannot be run as this user; one line."""


def owner_of_state(conf: cfg.ConfigOpts) -> None:
    """Become the user that the service runs as, if we are root.

    Where ``state_path`` is not there yet, or root's, nothing is changed.

    :raises WrongUser: this is neither root nor that user
    """
    try:
        found = os.stat(conf.state_path)
    except OSError:
        return
    us = os.geteuid()
    if found.st_uid in (0, us) or (us and state.is_shared(conf.state_path)):
        return
    name = _name(found.st_uid)
    if us:
        raise WrongUser(
            f'{conf.state_path} belongs to {name or found.st_uid}: run this '
            'as that user, or as root (it becomes that user)')
    _become(found, name)


def _become(found: os.stat_result, name: str | None) -> None:
    if name is None:
        group = found.st_gid
        os.setgroups([group])
    else:
        group = pwd.getpwnam(name).pw_gid
        os.initgroups(name, group)
    os.setresgid(group, group, group)
    os.setresuid(found.st_uid, found.st_uid, found.st_uid)
    os.environ['HOME'] = '/'


def _name(number: int) -> str | None:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return None
