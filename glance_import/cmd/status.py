"""glance-import-status: ``upgrade check`` before a start or an upgrade."""

from __future__ import annotations

import sys

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from glance_import.api import deploy
from glance_import import conf as configuration
from glance_import.db import engine
from glance_import.db import upgrade
from glance_import import startup

PROG = 'glance-import-status'


class Checks(upgradecheck.UpgradeCommands):
    """What ``glance-import-api`` would check at its start, one by one."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def _result(self, check) -> upgradecheck.Result:
        try:
            check(self._conf)
        except (startup.StartupError, deploy.DeployError,
                engine.DatabaseProblem) as failure:
            return upgradecheck.Result(upgradecheck.Code.FAILURE,
                                       str(failure))
        return upgradecheck.Result(upgradecheck.Code.SUCCESS)

    def _options(self) -> upgradecheck.Result:
        return self._result(startup.check_options)

    def _exposure(self) -> upgradecheck.Result:
        return self._result(deploy.check_exposure)

    def _extensions(self) -> upgradecheck.Result:
        return self._result(startup.check_extensions)

    def _directories(self) -> upgradecheck.Result:
        return self._result(startup.open_services)

    def _database(self) -> upgradecheck.Result:
        found = upgrade.status(engine.Database(self._conf))
        if found.state == 'head' or found.state == 'empty':
            return upgradecheck.Result(upgradecheck.Code.SUCCESS)
        return upgradecheck.Result(
            upgradecheck.Code.FAILURE,
            f'the database is {found.state}; see '
            'glance-import-manage db check')

    _upgrade_checks = (
        ('Options', _options),
        ('Who can connect', _exposure),
        ('Plugins and methods', _extensions),
        ('Directories', _directories),
        ('Database', _database),
    )


def main(argv=None) -> int:
    """Run the checks; 0 when all pass, as oslo.upgradecheck says else."""
    words = sys.argv[1:] if argv is None else list(argv)
    conf = configuration.new()
    checks = Checks(conf)
    return upgradecheck.main(
        conf=conf, project='glance', upgrade_command=checks,
        argv=configuration.expand_args(words),
        default_config_files=configuration.default_files())


if __name__ == '__main__':
    sys.exit(main())
