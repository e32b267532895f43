"""Judges one file with one plugin, as whoever runs this; for test_wall.

Standard library and glance_import.plugin only, so that an ordinary user can
run it with any Python. Reads a JSON order on stdin, prints the record.
"""

import dataclasses
import json
import sys

from glance_import.plugin import chain
from glance_import.plugin import host
from glance_import.plugin import sandbox


def main():
    order = json.load(sys.stdin)
    isolation = sandbox.make(order.get('isolation', 'strict'),
                             order.get('hide', ()))
    if 'words' in order:
        said = host.ask(isolation, host.Target(
            'command', 'command', words=tuple(order['words'])),
            data=order['data'], limits=host.Limits(**order['limits']))
        print(json.dumps({'said': said.decode('utf-8', 'replace')
                          if isinstance(said, bytes)
                          else dataclasses.asdict(said)}))
        return
    kind, source, attribute = order['plugin']
    target = host.Target('evil', kind, 'plugin_evil', attribute,
                         source=source, read=tuple(order.get('read', ())))
    plugin = chain.Plugin(
        name='evil', section='evil', kind=kind, version='1',
        methods=('inspect',), summary='', target=target,
        settings=chain.Settings(
            failure_policy=order.get('failure_policy', 'closed'),
            enforcement=order.get('enforcement', 'enforce'),
            allowed_properties=tuple(order.get('allowed', ())),
            limits=host.Limits(**order.get('limits', {})),
            options=order.get('options', {})))
    said = []

    def sink():
        open(order['sink'], 'wb').close()
        return order['sink']

    record = chain.run(
        isolation, plugin, order.get('do', 'inspect'), data=order['data'],
        image=order.get('image', {'id': 'x'}),
        sink=sink if order.get('sink') else None,
        log=lambda _plugin, text: _log(order, said, text))
    print(json.dumps({**dataclasses.asdict(record), 'log': said[:2000],
                      'lines': len(said)}))


def _log(order, said, text):
    said.append(text)
    if order.get('announce'):
        print(text, flush=True)


if __name__ == '__main__':
    main()
