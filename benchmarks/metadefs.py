"""What metadata definitions cost, beside real Glance in one run.

    python -m benchmarks.metadefs [--glance VENV] [--namespaces N]
                                  [--properties N]

Makes namespaces with ten properties each, then asks for lists of them and for
one, on SQLite and over a kept connection. Prints CPU milliseconds of the
service for one request and the middle of the times. Lists are to take less
than a tenth of Glance's CPU, which the exit status says. Last, a walk by pages
of 100: the time of each page says whether later ones cost more.
"""

from __future__ import annotations

import argparse
import collections.abc
import json
import pathlib
import sys
import tempfile
import time

from benchmarks import api
from benchmarks import glance as glances
from tests import service as services

NAMESPACES = '/v2/metadefs/namespaces'
ROUNDS = 30


def fill(connection: api.Connection, number: int, properties: int) -> None:
    """``number`` public namespaces, which hold ``properties`` together."""
    each = properties // number
    for index in range(number):
        connection.ask('POST', NAMESPACES, {
            'namespace': f'bench{index:06}', 'visibility': 'public',
            'display_name': f'Namespace {index}', 'description': 'x' * 200,
            'resource_type_associations': [
                {'name': 'OS::Glance::Image', 'prefix': 'hw_'},
                {'name': 'OS::Nova::Flavor', 'prefix': 'hw:'}],
            'properties': {
                f'p{index}_{nth}': {
                    'title': f'Property {nth}', 'type': 'string',
                    'description': 'y' * 100, 'enum': ['a', 'b', 'c']}
                for nth in range(each)}})


def asked(number: int) -> dict[str, str]:
    """What is measured -> its path."""
    one = f'{NAMESPACES}/bench{number // 2:06}'
    return {f'list of {number}': f'{NAMESPACES}?limit={number}',
            'list of 25': f'{NAMESPACES}?limit=25',
            'list for a resource type':
                f'{NAMESPACES}?limit={number}'
                '&resource_types=OS::Glance::Image',
            'namespace with its properties': one,
            'properties of a namespace': f'{one}/properties'}


def measure(service: services.Service, number: int, properties: int
            ) -> dict[str, tuple[float, float]]:
    connection = api.Connection(service)
    fill(connection, number, properties)
    try:
        return {name: api.cost(
            service, connection, lambda c, path=path: c.ask('GET', path),
            ROUNDS) for name, path in asked(number).items()}
    finally:
        connection.close()


def walk(service: services.Service) -> list[float]:
    """Milliseconds of each page of 100 of all namespaces."""
    connection = api.Connection(service)
    times, path = [], f'{NAMESPACES}?limit=100'
    while path:
        begun = time.perf_counter()
        page = json.loads(connection.ask('GET', path))
        times.append(1000 * (time.perf_counter() - begun))
        path = page.get('next')
    connection.close()
    return times


def table(number: int, found: collections.abc.Sequence[
        dict[str, tuple[float, float]]]) -> bool:
    """Print the rows; whether no list takes more than it is to."""
    met = True
    for name, (used, took) in found[0].items():
        line = f'{name}: {used:.2f} ms CPU, {took:.2f} ms'
        if len(found) > 1:
            other, slow = found[1][name]
            met = met and (not name.startswith('list')
                           or used < other / 10)
            line += (f' | Glance {other:.2f} ms CPU, {slow:.2f} ms | '
                     f'{used / other:.3f} of its CPU')
        print(line, flush=True)
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--glance', metavar='VENV')
    parser.add_argument('--namespaces', type=int, default=200)
    parser.add_argument('--properties', type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        top = pathlib.Path(name)
        makers = [lambda: api.ours(top / 'ours')]
        if options.glance:
            makers.append(lambda: glances.Glance(top / 'glance',
                                                 options.glance))
        found = []
        for make in makers:
            service = make()
            service.start()
            try:
                found.append(measure(service, options.namespaces,
                                     options.properties))
                if service.is_described:
                    times = walk(service)
            finally:
                service.stop()
        met = table(options.namespaces, found)
        print('pages of 100, ms:', *(f'{each:.1f}' for each in times))
    return 0 if met else 1


if __name__ == '__main__':
    sys.exit(main())
