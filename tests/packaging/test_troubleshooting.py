"""What the pages for operators name is there: log lines, metrics, commands."""

import pathlib
import re

import pytest

from glance_import.cmd import manage
from glance_import.exposition import gauges
from glance_import.imports import outcome
from glance_import.observe import series

TOP = pathlib.Path(__file__).parents[2]
ADMIN = TOP / 'doc' / 'source' / 'admin'
PAGES = [ADMIN / name for name in (
    'troubleshooting.rst', 'upkeep.rst', 'running-imports.rst',
    'monitoring.rst', 'metadefs.rst')]
METRICS = {series.PREFIX + name for name in (
    *series.COUNTERS, *series.HISTOGRAMS, *gauges.GAUGES)}


def text_of(page):
    """Its words, a blank between them."""
    return ' '.join(page.read_text().split())


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_commands(page):
    """Of glance-import-manage: the group, the command and its flags."""
    found = re.findall(
        r'glance-import-manage ((?:[\w-]+ )*[\w-]+)((?: (?:--[\w-]+|[A-Z]+'
        r'|[\d-]+))*)', text_of(page))
    assert found
    for words, rest in found:
        group, command = words.split()[:2]
        if group in {each.NAME for each in manage.SINGLE}:
            continue
        commands = next(each.COMMANDS for each in manage.GROUPS
                        if each.NAME == group)
        assert command in commands, words
        flags = {flag for flags, _options in commands[command][1]
                 for flag in flags} | {'--format', '--json'}
        assert set(re.findall(r'--[\w-]+', rest)) <= flags, (words, rest)


def test_metrics():
    named = set(re.findall(r'``(glance_import_\w+)``', ''.join(
        page.read_text() for page in PAGES)))
    assert len(named) > 8 and named <= METRICS, named - METRICS


def test_log_lines():
    """A line that a page quotes stands in the code."""
    code = re.sub(r"'\s*(f?)'", '', re.sub(r'\s+', ' ', ''.join(
        path.read_text() for path in (TOP / 'glance_import').rglob('*.py'))))
    page = text_of(PAGES[0])
    quoted = re.findall(r'\* log: (.*?)(?= \* |$)', page)
    lines = [each for said in quoted for each
             in re.findall(r'``([^`]+)``', said) if ' ' in each]
    assert len(lines) >= 6
    for line in lines:
        for part in line.split('...'):
            assert part.strip() in code, part


def test_codes():
    named = re.findall(r'^``([a-z]+(?:\.[a-z]+)?)``  ', PAGES[0].read_text(),
                       re.M)
    assert len(named) > 8 and set(named) <= set(outcome.CODES)
