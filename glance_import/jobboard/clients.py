"""The clients of the job boards outside the database.

What each needs to be told, made from the same few options; which of them is
imported depends on the board in use. Touches the network when asked to.
"""

from __future__ import annotations

import contextlib
import importlib.util
import typing

# Kind of board: its default port, and the Python module of its client.
KINDS = {'redis': (6379, 'redis'), 'etcd': (2379, 'etcd3gw'),
         'zookeeper': (2181, 'kazoo')}
# Mistakes of this code rather than a board that is away.
OURS = (AssertionError, AttributeError, NameError, TypeError)


def missing(kind: str) -> str | None:
    """The module that a kind of board needs and that is not installed."""
    if kind not in KINDS:
        return None
    module = KINDS[kind][1]
    return None if importlib.util.find_spec(module) else module


def addresses(options: typing.Any) -> list[str]:
    """host:port of each server."""
    port = options.jobboard_port or KINDS[options.jobboard][0]
    return [f'{host}:{port}' for host in options.jobboard_hosts]


def reason(failure: BaseException) -> str:
    """What a client complains of, in one line; the innermost knows best."""
    while True:
        cause = failure.__cause__ or (
            None if str(failure) else failure.__context__)
        if cause is None:
            break
        failure = cause
    return ' '.join(str(failure).split())[:300] or type(failure).__name__


def make(kind: str, options: typing.Any
         ) -> tuple[typing.Any, dict[str, typing.Any]]:
    """(client, options of taskflow's board)."""
    return _MAKERS[kind](options)


def ping(kind: str, client: typing.Any) -> None:
    """:raises Exception: whatever the client raises when nobody answers"""
    _PINGS[kind](client)


def close(kind: str, client: typing.Any) -> None:
    """End what the client has open."""
    with contextlib.suppress(Exception):
        _CLOSERS[kind](client)


def _servers(options: typing.Any) -> list[tuple[str, int]]:
    return [(host, int(port)) for host, _, port in (
        each.rpartition(':') for each in addresses(options))]


def _redis(options: typing.Any) -> tuple[typing.Any, dict[str, typing.Any]]:
    import redis
    from redis import backoff
    from redis import maint_notifications
    from redis import retry
    from redis import sentinel

    values: dict[str, typing.Any] = {
        'username': options.jobboard_username,
        'password': options.jobboard_password,
        'socket_timeout': options.jobboard_timeout,
        'socket_connect_timeout': options.jobboard_timeout,
        # Who calls has its own patience; a connection that was cut is worth
        # a second one.
        'retry': retry.Retry(backoff.NoBackoff(), 1),
        # Not known to servers before 8, who complain for each connection.
        'maint_notifications_config':
            maint_notifications.MaintNotificationsConfig(enabled=False)}
    if options.jobboard_tls:
        values |= {'ssl': True, 'ssl_ca_certs': options.jobboard_ca_file,
                   'ssl_certfile': options.jobboard_cert_file,
                   'ssl_keyfile': options.jobboard_key_file}
    servers = _servers(options)
    if options.jobboard_sentinel:
        client = sentinel.Sentinel(servers, **values).master_for(
            options.jobboard_sentinel)
    else:
        client = redis.Redis(host=servers[0][0], port=servers[0][1],
                             **values)
    return client, {'namespace': options.jobboard_path}


def _etcd(options: typing.Any) -> tuple[typing.Any, dict[str, typing.Any]]:
    import etcd3gw

    problem: Exception | None = None
    for host, port in _servers(options):
        client = etcd3gw.Etcd3Client(
            host=host, port=port, timeout=options.jobboard_timeout,
            protocol='https' if options.jobboard_tls else 'http',
            ca_cert=options.jobboard_ca_file,
            cert_cert=options.jobboard_cert_file,
            cert_key=options.jobboard_key_file, api_path='/v3/')
        try:
            client.status()
        except Exception as failure:
            problem = failure
            continue
        return client, {'path': options.jobboard_path}
    assert problem is not None
    raise problem


def _zookeeper(options: typing.Any
               ) -> tuple[typing.Any, dict[str, typing.Any]]:
    from kazoo import client as kazoo_client
    from kazoo import security

    values: dict[str, typing.Any] = {}
    if options.jobboard_username:
        name, word = options.jobboard_username, options.jobboard_password
        values = {
            'auth_data': [('digest', f'{name}:{word or ""}')],
            'default_acl': [security.make_digest_acl(
                name, word or '', all=True)]}
    if options.jobboard_tls:
        values |= {'use_ssl': True, 'ca': options.jobboard_ca_file,
                   'certfile': options.jobboard_cert_file,
                   'keyfile': options.jobboard_key_file}
    client = kazoo_client.KazooClient(
        hosts=','.join(addresses(options)),
        # A session ends when it was not heard of for so long: its claims do.
        timeout=float(options.claim_expiry), **values)
    client.start(timeout=options.jobboard_timeout)
    # It would ask for the version by a four-letter word, which servers since
    # 3.5 do not answer unless they are told to.
    return client, {'path': f'/taskflow/{options.jobboard_path}',
                    'check_compatible': False}


def _ping_zookeeper(client: typing.Any) -> None:
    # A call would wait for as long as the session may still be saved.
    if not client.connected:
        raise ConnectionError('not connected')


def _close_zookeeper(client: typing.Any) -> None:
    client.stop()
    client.close()


_MAKERS = {'redis': _redis, 'etcd': _etcd, 'zookeeper': _zookeeper}
_PINGS: dict[str, typing.Callable[[typing.Any], object]] = {
    'redis': lambda client: client.ping(),
    'etcd': lambda client: client.status(),
    'zookeeper': _ping_zookeeper}
_CLOSERS: dict[str, typing.Callable[[typing.Any], object]] = {
    'redis': lambda client: client.close(),
    'etcd': lambda client: client.session.close(),
    'zookeeper': _close_zookeeper}
