"""glance-import-status: ``upgrade check`` before a start or an upgrade.

Says what the service will do with these files, and makes nothing.
"""

from __future__ import annotations

import logging
import sys

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from glance_import.api import checking
from glance_import import checks
from glance_import.cmd import running_as
from glance_import import conf as configuration

PROG = 'glance-import-status'


class Checks(upgradecheck.UpgradeCommands):
    """What the service looks at when it starts and works, one by one."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._subject = checks.Subject(conf)
        # As oslo.upgradecheck wants them: it calls each with this object.
        self._upgrade_checks = tuple(
            (check.name, _row(check)) for check in checking.TABLE)

    def check(self) -> upgradecheck.Code:
        """Run all of them, as the user of the service."""
        running_as.owner_of_state(self._conf)
        # The table is the answer; libraries would write around it.
        logging.getLogger().setLevel(logging.CRITICAL + 1)
        try:
            return super().check()
        finally:
            self._subject.close()


def _row(check: checks.Check):
    def ask(command: Checks) -> upgradecheck.Result:
        found = checks.run(check, command._subject)
        return upgradecheck.Result(upgradecheck.Code(found.level), found.text)
    return ask


def main(argv=None) -> int:
    """Run the checks; 0 when all pass, as oslo.upgradecheck says else.

    1: something is odd; 2: something is wrong; 255: the files or the words
    cannot be read.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    conf = configuration.new()
    command = Checks(conf)
    upgradecheck.register_cli_options(conf, command)
    try:
        configuration.read(conf, words, prog=PROG)
        # Where the library looks for --json.
        upgradecheck.CONF = conf
        return command.check()
    except (cfg.Error, running_as.WrongUser) as failure:
        print(f'{PROG}: {" ".join(str(failure).split())}', file=sys.stderr)
        return 255


if __name__ == '__main__':
    sys.exit(main())
