"""What a failure comes to: a code that stays, and a sentence."""

import ast
import pathlib

import pytest

import glance_import
from glance_import import errors
from glance_import.imports import contract_step
from glance_import.imports import facades
from glance_import.imports import outcome
from glance_import.plugin import verdicts
from glance_import.stores import base as stores
from glance_import.stores import multi_store
from glance_import.uploads import integrity

PACKAGE = pathlib.Path(glance_import.__file__).parent


def of(failure, plugin=None):
    return outcome.of(failure, plugin=plugin, reference='req-1')


@pytest.mark.parametrize('failure, code', [
    (errors.Unsupported('x'), 'refused.format'),
    (errors.TooLarge('x'), 'refused.size'),
    (errors.ImageGone(), 'image.gone'),
    (errors.ImportFailed('x'), 'failed'),
    (errors.ImportFailed('x', code='staging.lost'), 'staging.lost'),
    (integrity.DigestMismatch('x'), 'refused.digest'),
    (stores.StoreFull('x'), 'store.full'),
    (stores.StoreUnavailable('x'), 'store.unreachable'),
    (multi_store.StoresFailed({'a': stores.StoreFull('x')}), 'store.full'),
    (facades.Forbidden('x'), 'plugin.forbidden'),
    (RuntimeError('secret'), 'internal'),
])
def test_codes(failure, code):
    found = of(failure)
    assert found.code == code
    assert 'secret' not in str(found)


def test_plugins_verdicts():
    refused = verdicts.Result('reject', 'It is evil.', 'E1', plugin='av')
    broken = verdicts.Result(verdicts.ERROR, 'it died', plugin='av')
    assert of(contract_step.Rejected(refused)) == outcome.Outcome(
        'refused.plugin', 'It is evil. (E1)', 'av')
    found = of(contract_step.Rejected(broken))
    assert (found.code, found.said_by) == ('plugin.failed', 'av')
    assert 'reference req-1' in found.reason


def test_a_plugins_own_failure_names_it():
    found = of(KeyError('x'), plugin='mine')
    assert found.code == 'plugin.failed'
    assert str(found).startswith('plugin mine: KeyError')


def test_stores_at_fault():
    found = of(multi_store.StoresFailed({
        'a': stores.StoreFull('x'), 'b': stores.StoreUnwritable('y')}))
    assert found.stores == ('a', 'b')


def test_every_code_that_is_used_is_explained():
    """In the table, which the page about the API prints."""
    used = set()
    for path in PACKAGE.rglob('*.py'):
        if 'plugin' in path.parts:
            # Contract plugins have codes of their own.
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == 'code' \
                    and isinstance(node.value, ast.Constant):
                used.add(node.value.value)
            if isinstance(node, ast.ClassDef):
                used |= {
                    each.value.value for each in node.body
                    if isinstance(each, ast.Assign)
                    and getattr(each.targets[0], 'id', '') == 'code'
                    and isinstance(each.value, ast.Constant)}
            if isinstance(node, ast.Call) and node.args \
                    and getattr(node.func, 'attr', '') == 'Outcome' \
                    and isinstance(node.args[0], ast.Constant):
                used.add(node.args[0].value)
    codes = {code for code in used if isinstance(code, str)}
    assert codes <= set(outcome.CODES), codes - set(outcome.CODES)
    assert set(outcome.CODES) - codes <= {'cancelled', outcome.INTERNAL}
