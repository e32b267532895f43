"""What every store promises, as tests.

A store's test module inherits ``Conformance`` and gives it a fixture
``store``; nothing here knows how the store keeps its objects.
"""

import dataclasses
import hashlib
import os

import pytest

from glance_import import staging
from glance_import.stores import base
from glance_import.stores import multi_store

DATA = os.urandom(3_300_000)
ALGO = 'sha512'


def describe(path, checksum=True):
    """What staging would know of the file."""
    with open(path, 'rb') as file:
        data = file.read()
    return staging.Staged(
        size=len(data),
        checksum=hashlib.md5(data).hexdigest() if checksum else None,
        hash_algo=ALGO, hash_value=hashlib.new(ALGO, data).hexdigest(),
        identity=staging.Identity.of_path(str(path)))


def add(store, image_id, path, expected, *, epoch, **digests):
    """The object that one store makes of a file."""
    return multi_store.add_file(
        [store], path, expected,
        multi_store.Order(image_id, epoch, **digests)).stored[store.id]


def content(store, uri, **kwargs):
    with store.open(uri, **kwargs) as file:
        return file.read()


class Conformance:

    def test_round_trip(self, store, image_id, source):
        expected = describe(source)
        stored = add(store, image_id, str(source), expected, epoch=1)
        assert (stored.size, stored.checksum, stored.hash_algo,
                stored.hash_value) == (
            expected.size, expected.checksum, ALGO, expected.hash_value)
        assert content(store, stored.uri) == DATA
        assert content(store, stored.uri, offset=1000) == DATA[1000:]
        assert store.size(stored.uri) == len(DATA)
        assert store.exists(stored.uri)
        assert source.read_bytes() == DATA

    def test_empty_object(self, store, image_id, source):
        source.write_bytes(b'')
        stored = add(store, image_id, str(source), describe(source),
                     epoch=1)
        assert stored.size == 0
        assert content(store, stored.uri) == b''

    def test_without_legacy_checksum(self, store, image_id, source):
        stored = add(store, image_id, str(source),
                     describe(source, checksum=False), epoch=1)
        assert stored.checksum is None

    def test_delete(self, store, image_id, source):
        stored = add(store, image_id, str(source), describe(source),
                     epoch=1)
        store.delete(stored.uri)
        assert not store.exists(stored.uri)
        for call in (store.delete, store.size, store.open):
            with pytest.raises(base.ObjectGone):
                call(stored.uri)
        assert source.read_bytes() == DATA

    def test_same_attempt_again_is_the_same_object(
            self, store, image_id, source):
        expected = describe(source)
        first = add(store, image_id, str(source), expected, epoch=1)
        assert add(store, image_id, str(source), expected,
                   epoch=1) == first
        assert content(store, first.uri) == DATA

    def test_next_attempt_adopts_what_is_right(self, store, image_id, source):
        expected = describe(source)
        first = add(store, image_id, str(source), expected, epoch=1)
        second = add(store, image_id, str(source), expected, epoch=2)
        # A name of its own, so that the first may still undo what it did.
        assert second.uri != first.uri
        assert dataclasses.replace(second, uri=first.uri) == first
        store.delete(first.uri)
        assert content(store, second.uri) == DATA

    def test_next_attempt_leaves_what_is_different(
            self, store, image_id, source):
        first = add(store, image_id, str(source), describe(source),
                    epoch=1)
        source.unlink()
        source.write_bytes(DATA[::-1])
        second = add(store, image_id, str(source), describe(source),
                     epoch=2)
        assert second.uri != first.uri
        assert content(store, first.uri) == DATA
        assert content(store, second.uri) == DATA[::-1]
        store.delete(second.uri)
        assert content(store, first.uri) == DATA

    def test_changed_source_gives_its_own_digests(
            self, store, image_id, source):
        expected = describe(source)
        source.write_bytes(DATA[:-1] + b'!')
        now = describe(source)
        stored = add(store, image_id, str(source), expected, epoch=1)
        assert stored.hash_value == now.hash_value
        assert stored.checksum == now.checksum
        assert content(store, stored.uri) == DATA[:-1] + b'!'

    def test_source_gone(self, store, image_id, source):
        expected = describe(source)
        source.unlink()
        with pytest.raises(base.SourceGone):
            add(store, image_id, str(source), expected, epoch=1)

    def test_cancelled_leaves_nothing(self, store, image_id, source):
        expected = describe(source)
        with pytest.raises(base.Cancelled):
            add(store, image_id, str(source), expected, epoch=1,
                cancelled=lambda: True)
        stored = add(store, image_id, str(source), expected, epoch=1,
                     cancelled=lambda: False)
        assert content(store, stored.uri) == DATA

    def test_progress_ends_complete(self, store, image_id, source):
        seen = []
        add(store, image_id, str(source), describe(source), epoch=1,
            progress=lambda *done: seen.append(done))
        assert seen == sorted(seen)
        assert seen[-1] == (len(DATA), len(DATA))

    @pytest.mark.parametrize('uri', ['', 'x', 'http://host/x', 'file://',
                                     'file:///etc/passwd'])
    def test_foreign_locations(self, store, uri):
        for call in (store.open, store.size, store.exists, store.delete):
            with pytest.raises(base.BadLocation):
                call(uri)

    def test_read_in_pieces_and_past_the_end(self, store, image_id, source):
        stored = add(store, image_id, str(source), describe(source), epoch=1)
        with store.open(stored.uri, offset=len(DATA) - 10) as file:
            assert (file.read(4), file.read(4), file.read(4)) == (
                DATA[-10:-6], DATA[-6:-2], DATA[-2:])
        assert content(store, stored.uri, offset=len(DATA)) == b''

    def test_holes_are_zeros(self, store, image_id, source):
        """Whether the store knows holes or not."""
        with open(source, 'r+b') as file:
            file.seek(9 << 20)
            file.write(DATA[:5])
            file.truncate((17 << 20) + 1)
        data = source.read_bytes()
        stored = add(store, image_id, str(source), describe(source), epoch=1)
        assert content(store, stored.uri) == data
        for offset in ((9 << 20) + 2, 16 << 20, 17 << 20):
            assert content(store, stored.uri, offset=offset) == data[offset:]

    def test_given_up_in_the_middle(self, store, image_id, source):
        seen = []

        def cancelled():
            seen.append(1)
            return len(seen) > 3
        with pytest.raises(base.Cancelled):
            # Of bytes nobody knows: no store takes them over by reference.
            add(store, image_id, str(source), None, epoch=1,
                cancelled=cancelled)
        assert store.sweep(image_id, below=2, keep=[]) == []

    def test_sweep_finds_earlier_attempts_only(self, store, image_id,
                                               source):
        stored = []
        for epoch in (1, 2, 3):
            source.unlink()
            source.write_bytes(DATA + bytes([epoch]))
            stored.append(add(store, image_id, str(source), describe(source),
                              epoch=epoch))
        assert store.sweep(image_id, below=3, keep=[stored[1].uri]) == [
            stored[0].uri]
        assert [store.exists(each.uri) for each in stored] == [
            False, True, True]

    def test_accepts_its_own(self, store, image_id, source):
        stored = add(store, image_id, str(source), describe(source), epoch=1)
        assert store.accepts(stored.uri)
        for uri in ('http://host/x', 'file:///etc/passwd', 's3://x/y/z', ''):
            assert not store.accepts(uri)

    def test_a_read_only_store_takes_nothing(self, store, image_id, source,
                                             monkeypatch):
        monkeypatch.setattr(store, 'read_only', True, raising=False)
        with pytest.raises(base.StoreUnwritable, match='read-only'):
            add(store, image_id, str(source), describe(source), epoch=1)

    @pytest.mark.parametrize('image_id', ['', '../x', 'a/b', '.'])
    def test_names_that_are_no_image_ids(self, store, image_id, source):
        with pytest.raises(base.BadLocation):
            add(store, image_id, str(source), describe(source), epoch=1)
