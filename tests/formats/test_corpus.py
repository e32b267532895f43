"""Images that lie: the verdict on each file of the corpus."""

import pytest

from glance_import.formats import inspection
from tests.formats import corpus
from tests.formats import unusual

TABLE = corpus.TABLE + unusual.TABLE
CASES = {case.name: case for case in TABLE}


@pytest.fixture(scope='module')
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp('corpus')


def test_names_are_unique():
    assert len(CASES) == len(TABLE)


@pytest.mark.parametrize('case', CASES.values(), ids=CASES)
def test_verdict(directory, case):
    path = directory / case.name
    case.make(path)
    if case.refusal:
        with pytest.raises(inspection.FormatRefused) as refusal:
            inspection.inspect_format(str(path), case.declared,
                                      inspection.Options())
        assert case.refusal in str(refusal.value)
        # What to do, as the last sentence.
        assert str(refusal.value).count('. ') == 1, refusal.value
        return
    verdict = inspection.inspect_format(str(path), case.declared,
                                        inspection.Options())
    assert verdict.format == case.format
    if case.virtual_size is None:
        assert verdict.virtual_size == path.stat().st_size
    else:
        assert verdict.virtual_size == case.virtual_size
    assert len(verdict.warnings) == bool(case.warning), verdict.warnings
    assert case.warning in ''.join(verdict.warnings)
