"""What a request costs grows no faster than the request.

Every pattern of the package, and every function that reads by hand what a
client sends, is run on texts that grow: blanks, quotes, separators, and texts
that almost fit. At four times the length the CPU may be eight times as much;
a pattern that tries every place from every place takes sixteen times.
"""

import ast
import importlib
import os
import pathlib
import re
import time

import pytest
import webob

import glance_import
from glance_import.api import digests
from glance_import.api import patches
from glance_import.api import schemas
from glance_import import conf as configuration
from glance_import.conf import plugins as plugin_options
from glance_import.domain import listing
from glance_import.domain import records
from glance_import import errors
from glance_import.net import urls

TOP = pathlib.Path(glance_import.__file__).parent
METHODS = ('match', 'fullmatch', 'search', 'findall', 'finditer', 'sub',
           'subn', 'split')
# Those that are no constants. The operator writes the first one; names that
# it is asked about have a bounded length.
WRITTEN_ELSEWHERE = {('policies/protections.py', 'name')}
SIZES = (500, 2000, 8000) + ((32000, 128000) if 'LONG_TESTS' in os.environ
                             else ())
# Below it a clock's grain is most of what is measured; seconds.
FLOOR = 0.02


def text_of(node):
    """The constant that an expression is, or None."""
    if isinstance(node, ast.Constant) and isinstance(node.value,
                                                     (str, bytes)):
        return node.value
    if isinstance(node, ast.JoinedStr):
        # Numbers are put in: any will do.
        return ''.join(part.value if isinstance(part, ast.Constant) else '32'
                       for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        return None if None in (left, right) else left + right
    return None


def flags_of(node):
    flags = 0
    for each in ast.walk(ast.Module(node.args[1:] + [
            word.value for word in node.keywords], [])):
        if isinstance(each, ast.Attribute) and isinstance(
                getattr(re, each.attr, None), re.RegexFlag):
            flags |= getattr(re, each.attr)
    return flags


def module_of(name):
    """The module of a file of the package."""
    return importlib.import_module('glance_import.' + name.removesuffix(
        '.py').removesuffix('/__init__').replace('/', '.'))


def collect():
    """(file, pattern, flags, how it is used) of the whole package."""
    found, elsewhere = [], set()
    for path in sorted(TOP.rglob('*.py')):
        name = str(path.relative_to(TOP))
        tree = ast.parse(path.read_text())
        assert not any(isinstance(node, ast.ImportFrom)
                       and node.module == 're'
                       for node in ast.walk(tree)), name
        used = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(
                    node.value, ast.Name) and node.attr in METHODS:
                used.setdefault(node.value.id, set()).add(node.attr)
        names = {id(node.value): node.targets[0].id
                 for node in ast.walk(tree) if isinstance(node, ast.Assign)
                 and isinstance(node.targets[0], ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                # jsonschema's, which searches.
                found += [(name, value.value, 0, {'search'}) for key, value
                          in zip(node.keys, node.values)
                          if text_of(key) == 'pattern' and text_of(value)]
                continue
            if not isinstance(node, ast.Call):
                continue
            for word in node.keywords:
                if word.arg in ('pattern', 'regex') and text_of(word.value):
                    found.append((name, text_of(word.value), 0, {'search'}))
            if not (isinstance(node.func, ast.Attribute) and isinstance(
                    node.func.value, ast.Name)
                    and node.func.value.id == 're'):
                continue
            method = node.func.attr
            if method not in (*METHODS, 'compile'):
                continue
            made = getattr(module_of(name), names.get(id(node), ''), None)
            if isinstance(made, re.Pattern):
                # As it came to be, whatever it is put together from.
                found.append((name, made.pattern, made.flags & ~re.UNICODE,
                              used.get(names[id(node)], set())))
                continue
            pattern = text_of(node.args[0])
            if pattern is None:
                elsewhere.add((name, ast.unparse(node.args[0])))
                continue
            if method in METHODS:
                ways = {method}
            elif id(node) in names:
                ways = used.get(names[id(node)], set())
            else:
                ways = {'match', 'fullmatch', 'search'}
            found.append((name, pattern, flags_of(node), ways))
    found += [('api/schemas.py', schemas.UUID, 0, {'search'}),
              ('conf/plugins.py', plugin_options.POLICY, 0, {'search'})]
    return found, elsewhere


PATTERNS, ELSEWHERE = collect()


def parsed(pattern, flags):
    return re._parser.parse(pattern, flags)


def loose_end(tree):
    """Whether there is a $ with nothing behind it that forbids a newline."""
    items = list(tree)
    for place, (kind, value) in enumerate(items):
        if str(value) == 'AT_END' and not (
                str(items[place + 1][0]) == 'ASSERT_NOT'
                if place + 1 < len(items) else False):
            return True
        if str(kind) == 'SUBPATTERN' and loose_end(value[3]):
            return True
        if str(kind) == 'BRANCH' and any(map(loose_end, value[1])):
            return True
    return False


def sample(tree, repeat=None, many=1):
    """A text that fits ``tree``, in which ``repeat`` comes ``many`` times.
    """
    out = []
    for kind, value in tree:
        name = str(kind)
        if name == 'LITERAL':
            out.append(chr(value))
        elif name == 'NOT_LITERAL':
            out.append('a' if value != ord('a') else 'b')
        elif name == 'ANY':
            out.append('a')
        elif name == 'IN':
            out.append(member(value))
        elif name in ('MAX_REPEAT', 'MIN_REPEAT', 'POSSESSIVE_REPEAT'):
            low, high, inner = value
            times = many if value is repeat else max(low, 1)
            out.append(sample(inner, repeat, many) * min(int(high), times))
        elif name == 'SUBPATTERN':
            out.append(sample(value[3], repeat, many))
        elif name == 'ATOMIC_GROUP':
            out.append(sample(value, repeat, many))
        elif name == 'BRANCH':
            out.append(sample(value[1][0], repeat, many))
    return ''.join(out)


def member(choices):
    """A character of a class."""
    wrong, names = set(), {'CATEGORY_SPACE': ' ', 'CATEGORY_DIGIT': '0',
                           'CATEGORY_WORD': 'a', 'CATEGORY_NOT_SPACE': 'a',
                           'CATEGORY_NOT_WORD': '-',
                           'CATEGORY_NOT_DIGIT': 'a'}
    negated = str(choices[0][0]) == 'NEGATE'
    for kind, value in choices:
        if str(kind) == 'LITERAL':
            if not negated:
                return chr(value)
            wrong.add(chr(value))
        elif str(kind) == 'RANGE' and not negated:
            return chr(value[0])
        elif str(kind) == 'CATEGORY':
            if not negated:
                return names[str(value)]
            wrong.add(names[str(value)])
    return next(each for each in 'a0 b' if each not in wrong)


def repeats(tree):
    """The repetitions without a small bound, at any depth."""
    for kind, value in tree:
        name = str(kind)
        if name in ('MAX_REPEAT', 'MIN_REPEAT', 'POSSESSIVE_REPEAT'):
            if int(value[1]) > 1000:
                yield value
            yield from repeats(value[2])
        elif name == 'SUBPATTERN':
            yield from repeats(value[3])
        elif name == 'BRANCH':
            for each in value[1]:
                yield from repeats(each)


SINGLE = (' ', '\t', '\n', '"', "'", '\\', ',', ';', ':', '=', '/', '-',
          '.', '_', '%', '(', ')', '[', '{', '<', '>', '@', '?', '&', '*',
          '~', '+', '0', 'a', 'A', 'f', '\x01')
MIXED = ('" ', ', ', ' ,', '";', '\\"', 'a ', 'a=', '=:', ':;', '; ', 'a,',
         '0-', '/ ', "' ", '""', '\r\n', 'aA', '0.')
ENDINGS = ('', '"', '\x01', '\n', ' "', '=')


def growing(pattern, flags):
    """Functions of a size that make the texts for a pattern."""
    tree = parsed(pattern, flags)
    whole = sample(tree)
    for unit in (*SINGLE, *MIXED, whole or 'a', whole[:-1] or 'a',
                 whole[1:] or 'a'):
        for start in {'', whole, whole[:-1], whole[:len(whole) // 2]}:
            for end in ENDINGS:
                yield lambda size, unit=unit, start=start, end=end: (
                    start + unit * (size // len(unit)) + end)
    for repeat in repeats(tree):
        for end in ENDINGS:
            for cut in (0, 1, 3):
                yield lambda size, repeat=repeat, end=end, cut=cut: (
                    sample(tree, repeat, size)[:-cut or None] + end)


def cpu(run, text):
    begin = time.thread_time()
    run(text)
    return time.thread_time() - begin


def grows_too_fast(run, make):
    """The two sizes and times at which it does, or None."""
    before = None
    for size in SIZES:
        text = make(size)
        took = min(cpu(run, text) for _ in range(1 if before is None else 2))
        if before is not None and took > FLOOR and took > 8 * before:
            again = cpu(run, make(size // 4))
            if took > 8 * max(before, again):
                return size, before, took, text[:40]
        if took > 1:
            break
        before = took
    return None


def runner(pattern, flags, method):
    compiled = re.compile(pattern, flags)
    binary = isinstance(pattern, bytes)

    def run(text):
        given = text.encode('latin-1') if binary else text
        if method in ('sub', 'subn'):
            compiled.sub(b'' if binary else '', given)
        elif method == 'finditer':
            for _ in compiled.finditer(given):
                pass
        else:
            getattr(compiled, method)(given)
    return run


@pytest.mark.parametrize(
    'name, pattern, flags, ways', PATTERNS,
    ids=[f'{number}-{name}' for number, (name, *_)
         in enumerate(PATTERNS)])
def test_patterns(name, pattern, flags, ways):
    assert ways, f'{name}: nobody uses {pattern!r}, or not where it is made'
    for method in ways:
        run = runner(pattern, flags, method)
        for make in growing(pattern, flags):
            found = grows_too_fast(run, make)
            assert found is None, (pattern, method, found)


def test_all_of_them():
    assert ELSEWHERE == WRITTEN_ELSEWHERE
    assert len(PATTERNS) > 30
    for name, pattern, flags, _ways in PATTERNS:
        # $ fits before a newline at the end too; \\Z, or fullmatch, does not.
        assert not loose_end(parsed(pattern, flags)), (name, pattern)
    assert loose_end(parsed('(a|b$)', 0))


def test_it_would_be_noticed():
    for pattern, method in (('a+b', 'search'), (' *x', 'search'),
                            (r'=[^,"]*[ \t]*\Z', 'match')):
        run = runner(pattern, 0, method)
        assert any(grows_too_fast(run, make)
                   for make in growing(pattern, 0)), pattern


def quietly(function):
    def run(text):
        try:
            function(text)
        except (errors.DomainError, urls.UrlRefused, webob.exc.HTTPException):
            pass
    return run


READERS = {
    'in:': lambda text: listing._split(text),
    'time': lambda text: listing._time('created_at', text),
    'number': lambda text: listing._number('size', text),
    'repr-digest': lambda text: digests.expected({'Repr-Digest': text}),
    'content-md5': lambda text: digests.expected({'Content-MD5': text}),
    'upload-checksum': lambda text: digests.upload_checksum(
        {'Upload-Checksum': text}),
    'pointer': lambda text: patches.parse(
        [{'op': 'remove', 'path': text}], patches.V21),
    'json': lambda text: records.read([text.encode()]),
    'url': urls.parse,
    'public url': urls.public,
    'public text': urls.public_text,
}
STARTS = ('', '"', 'a', 'sha-256=:', 'sha-256=:YQ==:;', 'http://', '[', '/',
          '{"a":', 'gt:2026-01-01', 'sha1 ', '0')


@pytest.mark.parametrize('name', READERS)
def test_what_is_read_by_hand(name):
    run = quietly(READERS[name])
    for unit in (*SINGLE, *MIXED, 'a", "', '"a",', 'sha-256=:YQ==:,',
                 '{"a":', '[[', 's://u@h?q '):
        for start in STARTS:
            for end in ENDINGS:
                found = grows_too_fast(run, lambda size: (
                    start + unit * (size // len(unit)) + end))
                assert found is None, (name, found)


@pytest.fixture(scope='module')
def unbounded():
    """Options that leave the size of a body as the only bound."""
    conf = configuration.load([])
    for name in ('image_property_quota', 'image_tag_quota',
                 'image_location_quota'):
        conf.set_override(name, -1)
    return conf


WRONG = {
    'tags': lambda size: {'tags': [0] * size},
    'long tags': lambda size: {'tags': ['x' * 256] * (size // 256)},
    'properties': lambda size: {f'p{n}': n for n in range(size)},
    'no names': lambda size: {'x' * 300 + str(n): 'y' for n in range(
        size // 300)},
    'long value': lambda size: {'disk_format': 'x' * size},
    'object': lambda size: {'name': {str(n): n for n in range(size)}},
    'locations': lambda size: {'locations': [{}] * size},
    'id': lambda size: {'id': '-' * size},
    'right': lambda size: {'tags': [str(n) for n in range(size)]},
}


@pytest.mark.parametrize('name', WRONG)
def test_records_that_are_wrong(unbounded, name):
    """One error is told, and no more are worked out."""
    run = quietly(lambda value: schemas.check_image(value, unbounded))
    assert grows_too_fast(run, WRONG[name]) is None


@pytest.mark.parametrize('name', ['tags', 'locations', 'properties'])
def test_quotas_come_before_the_items(name):
    conf = configuration.load([])
    with pytest.raises(errors.TooLarge, match='Maximum'):
        schemas.check_image(WRONG[name](1000), conf)
