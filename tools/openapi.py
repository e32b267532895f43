"""Write doc/source/api/openapi.json again, or check it (--check)."""

import json
import pathlib
import sys

from glance_import.api import openapi
from glance_import import conf

PATH = (pathlib.Path(__file__).parents[1] / 'doc' / 'source' / 'api'
        / 'openapi.json')


def text() -> str:
    """The description under the default options."""
    config = conf.new()
    config(args=[], default_config_files=[], default_config_dirs=[])
    return json.dumps(openapi.describe(config), indent=1) + '\n'


def main() -> int:
    if sys.argv[1:] == ['--check']:
        if PATH.read_text() != text():
            print(f'{PATH} is not what tools/openapi.py writes',
                  file=sys.stderr)
            return 1
        return 0
    PATH.write_text(text())
    return 0


if __name__ == '__main__':
    sys.exit(main())
