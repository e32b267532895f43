"""Write the sample files of etc/ from the code, or check them against it.

``config`` covers what is configured (both .conf files and a copy of the
package's paste file), ``policy`` the policy file. ``--check`` writes into a
temporary directory instead and prints what differs. Needs the package
installed, since oslo's generators find it by its entry points. Touches etc/
and nothing else.
"""

import argparse
import collections.abc
import difflib
import pathlib
import shutil
import sys
import tempfile

from oslo_config import generator as config_generator
from oslo_policy import generator as policy_generator

TOP = pathlib.Path(__file__).resolve().parent.parent
RECIPES = TOP / 'etc' / 'oslo-config-generator'
PASTE = TOP / 'glance_import' / 'api' / 'glance-api-paste.ini'


def _config(target: pathlib.Path) -> None:
    config_generator.main(['--config-file', str(RECIPES / target.name),
                           '--output-file', str(target)])


def _policy(target: pathlib.Path) -> None:
    policy_generator.generate_sample(['--namespace', 'glance_import',
                                      '--output-file', str(target)])


def _paste(target: pathlib.Path) -> None:
    shutil.copyfile(PASTE, target)


# part -> {file of etc/: what writes it}
SAMPLES: dict[str, dict[str, collections.abc.Callable]] = {
    'config': {
        'glance-api.conf': _config,
        'glance-image-import.conf': _config,
        'glance-api-paste.ini': _paste,
    },
    'policy': {
        'policy.yaml': _policy,
    },
}


def write(parts: list[str], directory: pathlib.Path) -> list[str]:
    """Write the files of ``parts`` into ``directory``; return their names."""
    wanted = {name: make for part in parts
              for name, make in SAMPLES[part].items()}
    for name, make in wanted.items():
        make(directory / name)
    return list(wanted)


def differences(parts: list[str]) -> list[str]:
    """Lines of a unified diff from etc/ to what the code says; empty if none.
    """
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in write(parts, pathlib.Path(scratch)):
            kept = TOP / 'etc' / name
            old = kept.read_text().splitlines() if kept.exists() else []
            new = (pathlib.Path(scratch) / name).read_text().splitlines()
            lines += difflib.unified_diff(
                old, new, f'etc/{name}', f'{name} as generated', lineterm='')
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--check', action='store_true')
    parser.add_argument('part', nargs='+', choices=list(SAMPLES))
    args = parser.parse_args()
    if not args.check:
        for name in write(args.part, TOP / 'etc'):
            print(f'etc/{name}')
        return 0
    found = differences(args.part)
    if found:
        print('\n'.join(found))
        print('etc/ is not current: run "tox -e genconfig,genpolicy" and '
              'commit what it writes.')
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
