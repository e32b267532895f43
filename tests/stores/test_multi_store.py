"""One read for several stores, and what becomes of those that fail."""

import hashlib
import os
import threading

import pytest

import conformance
from conformance import DATA
from conformance import describe
from glance_import.stores import base
from glance_import.stores import copying
from glance_import.stores import file as file_store
from glance_import.stores import lanes
from glance_import.stores import multi_store
from glance_import.stores import pacing
from tests import mounts


@pytest.fixture
def elsewhere(tmp_path):
    """A file system of its own, so that nothing is taken by reference."""
    with mounts.disk(tmp_path, 'ext4', 60) as place:
        yield place


def stores(*places):
    made = [file_store.FileStore(str(place), f's{number}')
            for number, place in enumerate(places)]
    for each in made:
        each.prepare()
    return made


class Counted:
    """blocks_of, with a count of the bytes it gave."""

    def __init__(self, monkeypatch):
        self.bytes = 0
        self._real = copying.blocks_of
        monkeypatch.setattr(copying, 'blocks_of', self)

    def __call__(self, fd):
        for block in self._real(fd):
            self.bytes += len(block)
            yield block


class Failing:
    """A store whose attempts fail at one step."""

    kind, read_only, id = 'failing', False, 'failing'

    def __init__(self, at):
        self.at = at
        self.aborted = 0

    def attempt(self, image_id, epoch):
        store = self

        class Attempt:
            pool = copying.pipeline.pools().disk

            def fail(self, step):
                if store.at == step:
                    raise OSError(28, 'No space left on device')

            def same_filesystem(self, source):
                self.fail('near')
                return False

            def adopt(self, source, report):
                self.fail('ready')

            def begin(self, size, hash_algo):
                self.fail('begin')

            def write(self, block):
                self.fail('write')

            def commit(self, digests):
                self.fail('commit')
                return base.Stored('failing://', digests.size, None, 'sha512',
                                   digests.hash_value)

            def abort(self):
                store.aborted += 1
        made = Attempt()
        made.store = self
        return made

    def delete(self, uri):
        pass


def add(chosen, source, image_id, expected=None, **order):
    return multi_store.add_file(chosen, str(source), expected,
                                multi_store.Order(image_id, 1, **order))


def test_three_copies_of_one_read(elsewhere, source, image_id, monkeypatch):
    chosen = stores(*(elsewhere / name for name in 'abc'))
    expected = describe(source)
    counted = Counted(monkeypatch)
    seen = []
    outcome = add(chosen, source, image_id, expected,
                  progress=lambda *done: seen.append(done))
    assert counted.bytes == len(DATA)
    assert list(outcome.stored) == ['s0', 's1', 's2']
    for store in chosen:
        stored = outcome.stored[store.id]
        assert conformance.content(store, stored.uri) == DATA
        assert stored.hash_value == expected.hash_value
        assert stored.metadata == {'store': store.id}
    assert seen == sorted(seen)
    assert seen[0] == (0, 3 * len(DATA))
    assert seen[-1] == (3 * len(DATA), 3 * len(DATA))


def test_nothing_is_hashed_that_is_proved(elsewhere, source, image_id,
                                          monkeypatch):
    expected = describe(source)

    def never(*args):
        raise AssertionError('hashed')
    monkeypatch.setattr(hashlib, 'new', never)
    outcome = add(stores(elsewhere / 'a'), source, image_id, expected)
    assert outcome.stored['s0'].hash_value == expected.hash_value


def test_a_writer_during_the_read(elsewhere, source, image_id, monkeypatch):
    """The lease is lost: all of it again, with digests of its own."""
    expected = describe(source)
    monkeypatch.setattr(copying, 'still_unchanged', lambda *args: False)
    counted = Counted(monkeypatch)
    store, = stores(elsewhere / 'a')
    outcome = add([store], source, image_id, expected)
    assert counted.bytes == 2 * len(DATA)
    stored = outcome.stored['s0']
    data = conformance.content(store, stored.uri)
    assert hashlib.sha512(data).hexdigest() == stored.hash_value


def test_one_by_reference_and_one_copy(elsewhere, tmp_path, source, image_id,
                                       monkeypatch):
    same, far = stores(tmp_path / 'near', elsewhere / 'far')
    expected = describe(source)
    counted = Counted(monkeypatch)
    outcome = add([same, far], source, image_id, expected)
    assert counted.bytes == len(DATA)
    assert os.path.samefile(same.path(image_id), source)
    for store in (same, far):
        assert conformance.content(
            store, outcome.stored[store.id].uri) == DATA


STEPS = ['ready', 'begin', 'write', 'commit']


@pytest.mark.parametrize('at', STEPS)
def test_all_or_none(elsewhere, source, image_id, at):
    chosen = stores(elsewhere / 'a', elsewhere / 'b')
    failing = Failing(at)
    with pytest.raises(multi_store.StoresFailed) as caught:
        add([chosen[0], failing, chosen[1]], source, image_id,
            describe(source))
    assert list(caught.value.failed) == ['failing']
    assert 'No space left' in str(caught.value)
    for store in chosen:
        assert os.listdir(store.datadir) == []
    assert failing.aborted


@pytest.mark.parametrize('at', STEPS)
def test_some_may_fail(elsewhere, source, image_id, at):
    chosen = stores(elsewhere / 'a', elsewhere / 'b')
    settled = []
    outcome = add(
        [chosen[0], Failing(at), chosen[1]], source, image_id,
        describe(source), all_must_succeed=False,
        settled=lambda *digests: settled.append(digests))
    assert sorted(outcome.stored) == ['s0', 's1']
    assert isinstance(outcome.failed['failing'], base.StoreFull)
    assert sorted((name, failure is None) for name, failure in settled) == [
        ('failing', False), ('s0', True), ('s1', True)]
    for store in chosen:
        assert conformance.content(
            store, outcome.stored[store.id].uri) == DATA


@pytest.mark.parametrize('must', [True, False])
def test_all_fail(source, image_id, must):
    with pytest.raises(multi_store.StoresFailed) as caught:
        add([Failing('write'), Failing('write')], source, image_id,
            all_must_succeed=must)
    assert 'No space left' in str(caught.value)


def test_a_store_alone_fails_as_what_it_is(source, image_id):
    with pytest.raises(base.StoreFull):
        add([Failing('commit')], source, image_id)


def test_a_full_disk_beside_one_with_room(tmp_path, elsewhere, image_id):
    source = tmp_path / 'large'
    source.write_bytes(os.urandom(1 << 20) * 80)
    full, wide = stores(elsewhere / 'a', tmp_path / 'wide')
    os.link(source, tmp_path / 'again')
    outcome = add([full, wide], source, image_id, describe(source),
                  all_must_succeed=False)
    assert isinstance(outcome.failed['s0'], base.StoreFull)
    assert os.listdir(full.datadir) == []
    assert wide.size(outcome.stored['s1'].uri) == 80 << 20


def test_refused_bytes_are_shown_nowhere(elsewhere, source, image_id):
    def refuse(digests):
        assert digests.hash_value == hashlib.sha512(DATA).hexdigest()
        raise ValueError('these are not the ones')
    chosen = stores(elsewhere / 'a', elsewhere / 'b')
    with pytest.raises(ValueError):
        add(chosen, source, image_id, verify=refuse)
    for store in chosen:
        assert os.listdir(store.datadir) == []


def test_a_source_that_ends_early_is_looked_at(elsewhere, image_id):
    def refuse(digests):
        assert digests.size == 5
        raise ValueError('shorter than it was')
    chosen = stores(elsewhere / 'a', elsewhere / 'b')
    source = base.Source(len(DATA), lambda: iter([b'short']))
    with pytest.raises(ValueError):
        multi_store.add(chosen, source,
                        multi_store.Order(image_id, 1, verify=refuse))
    for store in chosen:
        assert os.listdir(store.datadir) == []


def test_cancelled_when_one_is_there_already(tmp_path, elsewhere, source,
                                             image_id):
    chosen = stores(elsewhere / 'a', elsewhere / 'b')
    seen = []

    def settled(store_id, failure):
        seen.append(store_id)
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        add(chosen, source, image_id, settled=settled)
    assert len(seen) == 1
    for store in chosen:
        assert os.listdir(store.datadir) == []


def test_a_rate(elsewhere, tmp_path, source, monkeypatch):
    """Each store is waited for by its own, and none without one."""
    slept = []
    monkeypatch.setattr(pacing.time, 'sleep', slept.append)
    monkeypatch.setattr(pacing.time, 'monotonic', lambda: sum(slept))
    rates = pacing.Rates({'s0': '1'})
    pair = stores(elsewhere / 'a', elsewhere / 'b')
    multi_store.add_file(
        pair, str(source), describe(source), multi_store.Order(
            '11111111-2222-3333-4444-555555555555', 1, pace=rates.wait))
    assert sum(slept) == pytest.approx(len(DATA) / 1e6)
    # However slow, who gives up is heard.
    slept.clear()

    def check():
        if len(slept) == 3:
            raise base.Cancelled
    with pytest.raises(base.Cancelled):
        pacing.Rates({'s0': '1e-300'}).wait('s0', 1, check)
    assert slept == [1, 1, 1]
    for wrong in ('0', '-1', 'inf', 'nan', 'fast'):
        with pytest.raises(ValueError):
            pacing.Rates({'s0': wrong})


class Slow(file_store.Attempt):
    """A store that waits before each block, until it is let go."""

    def write(self, block):
        self.store.gate.wait(60)
        super().write(block)


def slow(store):
    store.gate = threading.Event()
    store.attempt = lambda image_id, epoch: Slow(store, image_id, epoch)
    return store


def test_the_slow_one_holds_up_nobody(elsewhere, tmp_path, image_id,
                                      monkeypatch):
    """It reads the source for itself when it is too far behind."""
    monkeypatch.setattr(lanes, 'WINDOW', 4 << 20)
    source = tmp_path / 'source'
    data = os.urandom(1 << 20) * 24 + b'end'
    source.write_bytes(data)
    fast, late = stores(elsewhere / 'a', elsewhere / 'b')
    slow(late)
    settled = []

    def hear(store_id, failure):
        settled.append((store_id, failure, late.gate.is_set()))
        late.gate.set()
    outcome = multi_store.add_file(
        [late, fast], str(source), describe(source), multi_store.Order(
            image_id, 1, all_must_succeed=False, settled=hear))
    assert settled == [
        (fast.id, None, False), (late.id, None, True)]
    for store in (fast, late):
        with store.open(outcome.stored[store.id].uri) as stream:
            assert stream.read() == data


def test_the_slow_one_fails_late(elsewhere, tmp_path, image_id, monkeypatch):
    monkeypatch.setattr(lanes, 'WINDOW', 4 << 20)
    source = tmp_path / 'source'
    source.write_bytes(os.urandom(1 << 20) * 24)
    fast, late = stores(elsewhere / 'a', elsewhere / 'b')
    slow(late)

    def hear(store_id, failure):
        # The source is another while the slow one reads it.
        if store_id == fast.id:
            os.utime(source)
        late.gate.set()
    with pytest.raises(base.ObjectChanged):
        multi_store.add_file(
            [late, fast], str(source), describe(source), multi_store.Order(
                image_id, 1, all_must_succeed=False, settled=hear))
    for place in (elsewhere / 'a', elsewhere / 'b'):
        assert os.listdir(place) == []


def test_the_slow_one_is_cancelled(elsewhere, tmp_path, image_id,
                                   monkeypatch):
    monkeypatch.setattr(lanes, 'WINDOW', 4 << 20)
    source = tmp_path / 'source'
    source.write_bytes(os.urandom(1 << 20) * 24)
    fast, late = stores(elsewhere / 'a', elsewhere / 'b')
    slow(late)
    told = []

    def cancelled():
        if told:
            late.gate.set()
        return bool(told)
    with pytest.raises(base.Cancelled):
        multi_store.add_file(
            [late, fast], str(source), describe(source), multi_store.Order(
                image_id, 1, all_must_succeed=False, cancelled=cancelled,
                settled=lambda *_: told.append(1)))
    for place in (elsewhere / 'a', elsewhere / 'b'):
        assert os.listdir(place) == []
