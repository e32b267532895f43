"""What the published description says of a request, for every test.

``check`` is called with each answer that a test gets by tests.service: one
with a status that the description lacks is a fault of one of them.
"""

import json
import pathlib
import re

_PATH = (pathlib.Path(__file__).parents[1] / 'doc' / 'source' / 'api'
         / 'openapi.json')
DESCRIBED = json.loads(_PATH.read_text())
_PATTERNS = [
    (re.compile(re.sub(r'{\w+}', '[^/]+', path)),
     {method.upper(): {int(status) for status in operation['responses']}
      for method, operation in methods.items() if method != 'parameters'})
    for path, methods in DESCRIBED['paths'].items()]


def check(method: str, target: str, status: int) -> None:
    """:raises AssertionError: no such answer is described"""
    path = target.partition('?')[0]
    for pattern, methods in _PATTERNS:
        if pattern.fullmatch(path) and method in methods:
            assert status in methods[method], (
                f'{method} {path} was answered with {status}, and the '
                'description has '
                + ', '.join(map(str, sorted(methods[method]))))
            return
