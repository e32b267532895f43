"""URLs that lie: what the URL itself shows is refused by default."""

import ipaddress

import pytest

from glance_import.net import urls

REFUSED = '''
http://127.0.0.1/
http://127.0.0.1./
http://127.1/
http://127.0.1/
http://127.255.255.254/
http://2130706433/
http://2130706433./
http://0x7f000001/
http://0X7F000001/
http://0x7f.0x0.0x0.0x1/
http://0x7f.1/
http://017700000001/
http://0177.0.0.1/
http://0177.0.0.01/
http://00000177.1/
http://127.0.0.0x1/
http://4294967297/
http://0x/
http://0/
http://0.0.0.0/
http://0.0.0.1/
http://localhost/
http://LOCALHOST/
http://localhost./
http://a.b.localhost/
http://localhost.localdomain/
http://ip6-localhost/
http://[::1]/
http://[::]/
http://[0:0:0:0:0:0:0:1]/
http://[::127.0.0.1]/
http://[::ffff:127.0.0.1]/
http://[::ffff:7f00:1]/
http://[::ffff:10.0.0.1]/
http://[::ffff:169.254.169.254]/
http://[64:ff9b::127.0.0.1]/
http://[64:ff9b::a9fe:a9fe]/
http://[64:ff9b:1::1]/
http://[2002:7f00:1::]/
http://[2002:a9fe:a9fe::1]/
http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/
http://[2001:db8::1]/
http://[fe80::1]/
http://[fe80::1%25eth0]/
http://[fe80::1%eth0]/
http://[fec0::1]/
http://[fc00::1]/
http://[fd00:ec2::254]/
http://[ff02::1]/
http://[100::1]/
http://[::1/
http://[::1]x/
http://[127.0.0.1]/
http://10.0.0.1/
http://10.1/
http://167772161/
http://0xa.0.0.1/
http://012.0.0.1/
http://172.16.0.1/
http://172.31.255.255/
http://192.168.1.1/
http://3232235777/
http://192.168.257/
http://100.64.0.1/
http://100.100.100.200/
http://169.254.169.254/latest/meta-data/
http://169.254.43518/
http://2852039166/
http://0xa9fea9fe/
http://0xa9.0xfe.0xa9.0xfe/
http://0251.0376.0251.0376/
http://169.254.169.254./
http://168.63.129.16/
http://192.0.0.192/
http://192.0.2.7/
http://198.18.0.1/
http://198.51.100.1/
http://203.0.113.1/
http://192.88.99.1/
http://224.0.0.1/
http://240.0.0.1/
http://255.255.255.255/
http://example.com:22/
http://example.com:8080/
http://example.com:0/
http://example.com:65536/
http://example.com:-1/
http://example.com:8o/
http://8.8.8.8:6379/
https://user@example.com/
https://user:password@example.com/
http://example.com@127.0.0.1/
http://127.0.0.1@example.com/
http://@example.com/
http://example.com:80@127.0.0.1/
http://example.com%40127.0.0.1/
http://127.0.0.1%2f@example.com/
http://example.com\\@127.0.0.1/
http:\\\\127.0.0.1/
http://exa mple.com/
http://example.com/a b
 http://example.com/
http://%31%32%37.0.0.1/
http://%6c%6f%63alhost/
http://\u2460\u2461\u2466.0.0.1/
http://127\u30020.0.1/
http://\u24c1ocalhost/
http://127.0.0.1\x00.example.com/
http://-example.com/
http://example..com/
http://exam*ple.com/
http://1.2.3.4.5/
http://256.256.256.256/
http://1.2.3.0x4.example.0x1/
http:///path
http://:80/
http:example.com/
//example.com/
/etc/passwd
file:///etc/passwd
FILE:///etc/passwd
file://example.com/etc/passwd
ftp://example.com/
gopher://example.com/
dict://example.com:11211/
ldap://example.com/
data:text/plain,x
javascript:alert(1)
unix:///run/docker.sock
s3://bucket/key
swift+https://example.com/
cinder://x
rbd://x/y/z
http+unix://x/
'''.removeprefix('\n').removesuffix('\n').split('\n')
REFUSED += ['', 'http://', 'http://example.com/\r\nX-Injected: 1',
            'http://example.com/\n', 'http://example.com/' + 'a' * 3000]

# url -> (host, port, what is asked for, the Host header)
# Pythons write it in two ways.
MAPPED = str(ipaddress.ip_address('::ffff:8.8.8.8'))
ALLOWED = {
    'http://example.com/a.img': ('example.com', 80, '/a.img', 'example.com'),
    'https://EXAMPLE.com./a?b=c#d': (
        'example.com', 443, '/a?b=c', 'example.com'),
    'http://example.com': ('example.com', 80, '/', 'example.com'),
    'http://example.com:/': ('example.com', 80, '/', 'example.com'),
    'http://example.com:443/': (
        'example.com', 443, '/', 'example.com:443'),
    'http://example.com//a/../b;c': (
        'example.com', 80, '//a/../b;c', 'example.com'),
    'http://xn--bcher-kva.example/': (
        'xn--bcher-kva.example', 80, '/', 'xn--bcher-kva.example'),
    'http://8.8.8.8/': ('8.8.8.8', 80, '/', '8.8.8.8'),
    'http://[2606:4700::1111]/': (
        '2606:4700::1111', 80, '/', '[2606:4700::1111]'),
    'http://[::ffff:8.8.8.8]/': (
        MAPPED, 80, '/', f'[{MAPPED}]'),
    'http://[64:ff9b::8.8.8.8]/': (
        '64:ff9b::808:808', 80, '/', '[64:ff9b::808:808]'),
    'http://3com.example/': ('3com.example', 80, '/', '3com.example'),
    'http://localhost.example/': (
        'localhost.example', 80, '/', 'localhost.example'),
}


def test_the_table_is_long_enough():
    assert len(set(REFUSED)) == len(REFUSED) >= 60


@pytest.mark.parametrize('url', REFUSED)
def test_refused(url):
    with pytest.raises(urls.UrlRefused) as refusal:
        urls.Filter().check(url)
    assert str(refusal.value)


@pytest.mark.parametrize('url', ALLOWED)
def test_allowed(url):
    target = urls.Filter().check(url)
    assert (target.host, target.port, target.path,
            target.authority) == ALLOWED[url]
