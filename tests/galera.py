"""A Galera cluster of three nodes for tests, as most clouds have.

Each is a MariaDB of Debian's with ``galera-4``, on ports of loopback of its
own. The first is made as any other; the others fetch its state by rsync.
"""

from __future__ import annotations

import contextlib
import os

from tests import servers

PROVIDER = '/usr/lib/galera/libgalera_smm.so'
SIZE = 3


class Node(servers.MariaDB):
    """One node; ``first`` is who the others join."""

    def __init__(self, first: Node | None = None) -> None:
        if not os.path.exists(PROVIDER):
            servers.missing('galera-4 is not installed')
        servers.program('rsync')
        self._first = first
        if first is None:
            super().__init__()
        else:
            servers.Server.__init__(self)
            self.server, self.password = first.server, first.password
            # Before it has a database of its own, it is given one.
            self.run('mkdir', self.path('data'))
        self._group, self._state, self._missed = (
            servers.free_port() for _ in range(3))

    def serve(self) -> list[str]:
        words = super().serve()
        address = 'gcomm://'
        if self._first is None:
            words.append('--wsrep-new-cluster')
        else:
            address += f'127.0.0.1:{self._first._group}'
            words = [each for each in words
                     if not each.startswith('--init-file')]
        options = {
            'base_port': self._group, 'gcache.size': '16M',
            'gmcast.listen_addr': f'tcp://127.0.0.1:{self._group}',
            'ist.recv_addr': f'127.0.0.1:{self._missed}',
            'pc.recovery': 'no', 'pc.announce_timeout': 'PT1S'}
        return [*words, '--wsrep-on=ON', f'--wsrep-provider={PROVIDER}',
                f'--wsrep-cluster-address={address}',
                '--wsrep-cluster-name=test', '--wsrep-sst-method=rsync',
                f'--wsrep-sst-receive-address=127.0.0.1:{self._state}',
                '--wsrep-node-address=127.0.0.1',
                f'--wsrep-node-name=node{self.port}',
                '--binlog-format=ROW', '--innodb-autoinc-lock-mode=2',
                '--wsrep-provider-options=' + ';'.join(
                    f'{name}={value}' for name, value in options.items())]

    def status(self, name: str) -> str:
        """One of the variables that begin with ``wsrep_``."""
        (_name, value), = self.execute(
            f"SHOW GLOBAL STATUS LIKE 'wsrep_{name}'")
        return value


@contextlib.contextmanager
def running():
    """The nodes of a cluster, all of them members."""
    nodes = [Node()]
    try:
        nodes[0].start()
        nodes += [Node(nodes[0]) for _ in range(SIZE - 1)]
        for each in nodes[1:]:
            each.launch()
        yield nodes
    finally:
        for each in reversed(nodes):
            each.remove()


def joined(nodes: list[Node]) -> None:
    """Wait until all of them take statements."""
    for each in nodes[1:]:
        each.wait()
    assert {each.status('cluster_size') for each in nodes} == {str(SIZE)}
