"""What Nova and Neutron say to Horizon, as fixed answers on loopback.

Just enough for its dialogs: no machine is started. What is asked for and not
known is answered with 404 and noted, so that a test sees it.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
import typing

NETWORK = 'b1a6f7ee-0000-4000-8000-000000000001'
SUBNET = 'b1a6f7ee-0000-4000-8000-000000000002'
VERSION = {'id': 'v2.1', 'status': 'CURRENT', 'version': '2.95',
           'min_version': '2.1', 'updated': '2013-07-23T11:33:21Z'}
FLAVOR = {'id': '1', 'name': 'm1.tiny', 'ram': 512, 'disk': 1, 'vcpus': 1,
          'swap': 0, 'rxtx_factor': 1.0, 'OS-FLV-EXT-DATA:ephemeral': 0,
          'OS-FLV-DISABLED:disabled': False, 'description': None,
          'os-flavor-access:is_public': True, 'extra_specs': {}, 'links': []}
LIMITS = {name: most for name, most in (
    ('maxTotalInstances', 10), ('maxTotalCores', 20),
    ('maxTotalRAMSize', 51200), ('maxTotalKeypairs', 100),
    ('maxServerMeta', 128), ('maxServerGroups', 10),
    ('maxServerGroupMembers', 10), ('maxImageMeta', 128),
    ('maxPersonality', 5), ('maxPersonalitySize', 10240),
    ('totalInstancesUsed', 0), ('totalCoresUsed', 0), ('totalRAMUsed', 0),
    ('totalServerGroupsUsed', 0))}
NETWORKS = {'id': NETWORK, 'name': 'net', 'status': 'ACTIVE', 'shared': True,
            'admin_state_up': True, 'router:external': False,
            'subnets': [SUBNET], 'tenant_id': 'x', 'project_id': 'x'}
SUBNETS = {'id': SUBNET, 'name': 'sub', 'network_id': NETWORK,
           'cidr': '10.0.0.0/24', 'ip_version': 4, 'gateway_ip': '10.0.0.1',
           'enable_dhcp': True, 'allocation_pools': [], 'tenant_id': 'x',
           'dns_nameservers': [], 'host_routes': [], 'project_id': 'x'}
QUOTAS = ('network', 'subnet', 'port', 'router', 'floatingip',
          'security_group', 'security_group_rule')
ANSWERS: dict[str, dict[str, typing.Any]] = {
    'nova': {
        r'/v2\.1/?': {'version': {**VERSION, 'links': []}},
        r'/?': {'versions': [{**VERSION, 'links': []}]},
        r'.*/servers(/detail)?': {'servers': []},
        r'.*/flavors(/detail)?': {'flavors': [FLAVOR]},
        r'.*/flavors/1': {'flavor': FLAVOR},
        r'.*/flavors/1/os-extra_specs': {'extra_specs': {}},
        r'.*/os-keypairs': {'keypairs': []},
        r'.*/os-server-groups': {'server_groups': []},
        r'.*/limits': {'limits': {'absolute': LIMITS, 'rate': []}},
        r'.*/extensions': {'extensions': []},
        r'.*/os-quota-sets/.*': {'quota_set': {
            'instances': 10, 'cores': 20, 'ram': 51200, 'key_pairs': 100,
            'metadata_items': 128, 'server_groups': 10,
            'server_group_members': 10, 'injected_files': 5,
            'injected_file_content_bytes': 10240,
            'injected_file_path_bytes': 255}},
        r'.*/os-simple-tenant-usage.*': {'tenant_usage': {}},
        r'.*/os-availability-zone(/detail)?': {'availabilityZoneInfo': [{
            'zoneName': 'nova', 'zoneState': {'available': True},
            'hosts': None}]}},
    'neutron': {
        r'/?': {'versions': [{'id': 'v2.0', 'status': 'CURRENT',
                              'links': []}]},
        r'/v2\.0/?': {'resources': []},
        r'.*/extensions(\.json)?': {'extensions': []},
        r'.*/networks(\.json)?': {'networks': [NETWORKS]},
        r'.*/networks/[^/]*': {'network': NETWORKS},
        r'.*/subnets(\.json)?': {'subnets': [SUBNETS]},
        r'.*/ports(\.json)?': {'ports': []},
        r'.*/security-groups(\.json)?': {'security_groups': []},
        r'.*/floatingips(\.json)?': {'floatingips': []},
        r'.*/routers(\.json)?': {'routers': []},
        r'.*/quotas/[^/]*(\.json)?': {'quota': dict.fromkeys(QUOTAS, 10)},
        r'.*/quotas/[^/]*/details(\.json)?': {'quota': {
            name: {'limit': 10, 'used': 0, 'reserved': 0}
            for name in QUOTAS}}},
}


@contextlib.contextmanager
def serving(kind: str, port: int) -> typing.Iterator[list[str]]:
    """Answers of ``nova`` or ``neutron``; what was asked and is not known."""
    unknown: list[str] = []
    links = [{'rel': 'self', 'href': f'http://127.0.0.1:{port}/v2'
              + ('.1/' if kind == 'nova' else '.0/')}]

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'

        def do_GET(self) -> None:
            path = self.path.partition('?')[0]
            found = next((answer for pattern, answer in ANSWERS[kind].items()
                          if re.fullmatch(pattern, path)), None)
            if found is None:
                unknown.append(self.path)
            status = 404 if found is None else 200
            for each in [(found or {}).get('version'),
                         *(found or {}).get('versions', [])]:
                if each:
                    each['links'] = links
            data = json.dumps(found or {}).encode()
            self.send_response(status)
            self.send_header('Content-Type', 'application/json')
            self.send_header('Content-Length', str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_arguments: typing.Any) -> None:
            """Nothing: what matters is in ``unknown``."""

    server = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield unknown
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
