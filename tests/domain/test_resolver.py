"""Name servers that answer badly for one kind of record, or for both."""

import pytest

from glance_import.net import resolver
from tests import origins

V4, V6 = ['192.0.2.1'], ['2001:db8::1']
BAD = ('NXDOMAIN', 'SERVFAIL', 'REFUSED', 'NOTIMP', 'FORMERR', 'garbage',
       'silence')


@pytest.fixture
def look_up(monkeypatch):
    monkeypatch.setattr(resolver, 'SECONDS', 1.5)
    monkeypatch.setattr(resolver, '_MORE_SECONDS', 0.3)
    with origins.Names({}) as names:
        resolve = resolver.by_servers([names.address])

        def look_up(a, aaaa):
            names.table['x.example'] = {'A': a, 'AAAA': aaaa}
            return [str(each) for each in resolve('x.example')]
        yield look_up


@pytest.mark.parametrize('bad', ([], *BAD), ids=str)
def test_one_kind_hides_nothing_of_the_other(look_up, bad):
    assert look_up(V4, bad) == V4
    assert look_up(bad, V6) == V6


def test_both_kinds(look_up):
    assert look_up(V4, V6) == V4 + V6
    assert look_up([], []) == []


@pytest.mark.parametrize('a, aaaa, error', [
    ('NXDOMAIN', 'NXDOMAIN', resolver.NameUnknown),
    ('NXDOMAIN', 'SERVFAIL', resolver.NameUnknown),
    ('NXDOMAIN', [], resolver.NameUnknown),
    ('SERVFAIL', 'NXDOMAIN', resolver.NoAnswer),
    ('SERVFAIL', [], resolver.NoAnswer), ([], 'SERVFAIL', resolver.NoAnswer),
    ('silence', 'silence', resolver.NoAnswer),
    ('garbage', 'REFUSED', resolver.NoAnswer)])
def test_no_address(look_up, a, aaaa, error):
    with pytest.raises(error):
        look_up(a, aaaa)


def test_a_name_that_there_is_without_an_address(look_up):
    assert look_up([], 'NXDOMAIN') == []


@pytest.mark.parametrize('name', ('a' * 64 + '.example', 'a..example'))
def test_what_is_no_name(name):
    with origins.Names({}) as names, pytest.raises(resolver.NameUnknown):
        resolver.by_servers([names.address])(name)
