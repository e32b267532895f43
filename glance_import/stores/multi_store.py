"""One image into one or more stores: its bytes are read once.

Each store gets its own attempt. Stores that can take the bytes over without
a copy do so; all others are fed by one pass, which hashes the bytes once if
nothing proves that the digests taken earlier hold. What fails is undone in
that store alone, or everywhere when all stores must succeed. Touches stores
and the source it is given.
"""

from __future__ import annotations

import collections.abc
from concurrent import futures
import contextlib
import dataclasses
import functools
import os
import stat

from glance_import import staging
from glance_import.stores import base
from glance_import.stores import copying
from glance_import.stores import lanes

# Seconds between two looks whether stores that are late are still wanted.
LOOK_SECONDS = 0.5

Failures = dict[str, base.StoreError]
# Digests when a store has the image (None) or will not have it (why).
Settled = collections.abc.Callable[[str, base.StoreError | None], None]
# Hears which store has done its part (None), or not, and why.
Heard = collections.abc.Callable[[str, str | None], None]
# May refuse bytes by their digests before any store shows them.
Verify = collections.abc.Callable[[base.Digests], None]


@dataclasses.dataclass
class Outcome:
    """By store id: what was stored, and what was not and why."""

    stored: dict[str, base.Stored] = dataclasses.field(default_factory=dict)
    failed: Failures = dataclasses.field(default_factory=dict)


class StoresFailed(base.StoreError):
    """Some stores failed, so none has the image; by store id."""

    def __init__(self, failed: Failures) -> None:
        super().__init__('; '.join(
            f'store {name}: {failure}' if len(failed) > 1 else str(failure)
            for name, failure in failed.items()))
        self.failed = failed
        self.code = next(iter(failed.values())).code


class StoresUnavailable(StoresFailed, base.StoreUnavailable):
    """None that failed answers now; the same call may succeed later."""


def _failed(failed: Failures) -> StoresFailed:
    passing = all(isinstance(each, base.StoreUnavailable)
                  for each in failed.values())
    return (StoresUnavailable if passing else StoresFailed)(failed)


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be stored, as what, and who is digests.

    ``hash_algo`` and ``legacy_checksum`` (an md5) are for bytes of which
    nothing is known; ``progress`` hears bytes so far and in all, over all
    stores; ``cancelled`` is asked between blocks; ``pace`` holds up what
    goes to a store.
    """

    image_id: str
    epoch: int
    hash_algo: str = 'sha512'
    legacy_checksum: bool = True
    all_must_succeed: bool = True
    progress: base.Progress | None = None
    cancelled: base.IsCancelled | None = None
    settled: Settled | None = None
    heard: Heard | None = None
    verify: Verify | None = None
    pace: lanes.Pace | None = None


def add_file(stores: collections.abc.Sequence[base.Store], source_path: str,
             expected: staging.Staged | None, order: Order) -> Outcome:
    """Store the file at ``source_path``, which stays where it is.

    :param expected: what is known of its bytes, None if nothing is
    :raises base.SourceGone: it is not there
    :raises StoresFailed: some stores failed, or all; nothing is left. Of
        one store alone, its own StoreError is raised
    :raises base.Cancelled: nothing is left
    """
    fd = _open_source(source_path)
    try:
        source = base.Source(
            os.fstat(fd).st_size, functools.partial(copying.blocks_of, fd),
            fd, expected)
        return add(stores, source, order)
    finally:
        os.close(fd)


def add(stores: collections.abc.Sequence[base.Store], source: base.Source,
        order: Order) -> Outcome:
    """Store the bytes of ``source``; errors as ``add_file``."""
    return _Run(stores, source, order).run()


class _Run:
    """One call of ``add``."""

    def __init__(self, stores: collections.abc.Sequence[base.Store],
                 source: base.Source, order: Order) -> None:
        self._source = source
        self._order = order
        self._outcome = Outcome()
        self._stores: dict[str, base.Store] = {}
        self._live = [store.attempt(order.image_id, order.epoch)
                      for store in stores]
        for attempt in self._live:
            if isinstance(attempt, base.Stoppable):
                attempt.cancelled = order.cancelled
        self._alone = len(stores) == 1
        self._total = source.size * len(stores)
        # Bytes of this pass whose rate has been seen to.
        self._paced = 0

    def run(self) -> Outcome:
        try:
            self._report(0, 0)
            self._each(self._not_writable)
            # Near ones last: a hard link changes the source's times, and
            # the proof that nobody changed its bytes with them.
            same = self._on_same_filesystem()
            far = [each for each in self._live if each not in same]
            self._adopt(far)
            self._pass([each for each in far if each in self._live])
            self._adopt(same)
            self._pass([each for each in same if each in self._live])
            if not self._outcome.stored:
                raise _failed(self._outcome.failed)
            return self._outcome
        except StoresFailed as failure:
            self._undo()
            if self._alone:
                # Its own kind says more.
                raise next(iter(failure.failed.values())) from failure
            raise
        except BaseException:
            self._undo()
            raise

    # -- who is left, and what became of the others

    def _each(self, action: collections.abc.Callable[
            [base.Attempt], base.Stored | None],
            attempts: collections.abc.Sequence[base.Attempt] | None = None
            ) -> None:
        found: list[tuple[base.Attempt, Exception | None]] = []
        for attempt in list(self._live if attempts is None else attempts):
            try:
                stored = action(attempt)
            except (OSError, base.StoreError) as failure:
                found.append((attempt, failure))
                continue
            if stored is not None:
                self._live.remove(attempt)
                self._outcome.stored[attempt.store.id] = stored
                self._stores[attempt.store.id] = attempt.store
                found.append((attempt, None))
        # Every object is known by now, whatever is raised from here on.
        for attempt, failed in found:
            if failed is not None:
                self._failed(attempt, failed)
            else:
                self._hear(attempt, None)
                self._report_stored()
                self._note_end(attempt.store.id, None)

    def _not_writable(self, attempt: base.Attempt) -> None:
        if attempt.store.read_only:
            raise base.StoreUnwritable(
                f'store {attempt.store.id} is read-only')

    def _on_same_filesystem(self) -> list[base.Attempt]:
        found = []
        for attempt in self._live:
            with contextlib.suppress(OSError, base.StoreError):
                if attempt.same_filesystem(self._source):
                    found.append(attempt)
        return found

    def _adopt(self, attempts: list[base.Attempt]) -> None:
        self._each(lambda each: each.adopt(
            self._source, lambda done: self._report(done, 1)), attempts)

    def _failed(self, attempt: base.Attempt, failure: Exception) -> None:
        """:raises StoresFailed: no store may fail; Cancelled goes on"""
        if isinstance(failure, (base.Cancelled, base.SourceGone,
                                base.ObjectChanged)):
            raise failure
        if isinstance(failure, OSError):
            failure = base.from_os(attempt.store.id, failure)
        assert isinstance(failure, base.StoreError)
        self._hear(attempt, failure)
        self._live.remove(attempt)
        self._outcome.failed[attempt.store.id] = failure
        _quietly(attempt.abort)
        if self._order.all_must_succeed:
            raise _failed(self._outcome.failed)
        self._note_end(attempt.store.id, failure)

    def _hear(self, attempt: base.Attempt,
              failure: base.StoreError | None) -> None:
        if self._order.heard is not None:
            self._order.heard(attempt.store.id,
                              None if failure is None else str(failure))

    def _note_end(self, store_id: str, failure: base.StoreError | None
                  ) -> None:
        if self._order.settled is not None:
            self._order.settled(store_id, failure)

    def _undo(self) -> None:
        for attempt in self._live:
            _quietly(attempt.abort)
        for store_id, stored in self._outcome.stored.items():
            _quietly(functools.partial(
                base.undo, self._stores[store_id], stored.uri,
                self._order.epoch))

    # -- the pass

    def _pass(self, attempts: list[base.Attempt]) -> None:
        if not attempts:
            return
        expected, fd = self._source.expected, self._source.fd
        if expected is None or fd is None:
            self._copy(attempts, hashing=True)
            return
        with copying.unchanged(fd, expected.identity) as proved:
            if self._copy(attempts, hashing=not proved):
                return
        # Somebody wrote to the source meanwhile: all of it again.
        self._copy([each for each in attempts if each in self._live],
                   hashing=True)

    def _copy(self, attempts: list[base.Attempt], *, hashing: bool) -> bool:
        """Whether what was passed on is known; if not, nothing is left."""
        expected = self._source.expected
        algo = expected.hash_algo if expected else self._order.hash_algo
        self._each(lambda each: each.begin(self._source.size, algo),
                   attempts)
        writing = [each for each in attempts if each in self._live]
        if not writing:
            return True
        group = (None if hashing or len(writing) == 1
                 or self._order.all_must_succeed else lanes.Group())
        made = [self._lane(each, group) for each in writing]
        copy = copying.Copy(
            self._source.blocks(), algo if hashing else None,
            expected.checksum is not None if expected
            else self._order.legacy_checksum,
            [(each.attempt.pool, each.write) for each in made])
        cut, self._paced = False, 0
        try:
            copy.run(functools.partial(self._passed, made))
        except BaseException as failure:
            if not isinstance(failure, (OSError, base.StoreError)) \
                    or not any(lane.failure for lane in made):
                _stop(made)
                raise
            cut = True
        digests = self._digests(copy, hashing)
        if digests is None:
            _stop(made)
            for each in writing:
                each.abort()
            return False
        # A source that ends early is looked at too: nothing failed then.
        if self._order.verify is not None and not cut:
            self._order.verify(digests)
        self._commit(made, digests)
        return True

    def _lane(self, attempt: base.Attempt, group: lanes.Group | None
              ) -> lanes.Lane:
        """:param group: of those that may be slower than others

        They may where the bytes are known and nobody waits for the last one,
        as is so where all must succeed.
        """
        if group is not None and self._source.fd is not None:
            return lanes.OwnSpeed(attempt, group, self._source.fd,
                                  self._order.pace)
        return lanes.Lane(attempt, self._order.all_must_succeed)

    def _passed(self, made: collections.abc.Collection[lanes.Lane],
                done: int) -> None:
        live = [lane for lane in made if lane.failure is None]
        if not live:
            raise next(lane.failure for lane in made if lane.failure)
        self._report(done, len(live))
        if self._order.pace is not None:
            # Here, and in no thread that works for others too.
            for lane in live:
                if not isinstance(lane, lanes.OwnSpeed):
                    self._order.pace(lane.attempt.store.id,
                                     done - self._paced, self._check_stop)
        self._paced = done

    def _digests(self, copy: copying.Copy, hashing: bool
                 ) -> base.Digests | None:
        expected = self._source.expected
        if hashing:
            return base.Digests(
                copy.size, copy.checksum,
                expected.hash_algo if expected else self._order.hash_algo,
                copy.hash_value or '')
        assert expected is not None and self._source.fd is not None
        if not copying.still_unchanged(self._source.fd, expected.identity):
            return None
        return base.Digests(expected.size, expected.checksum,
                            expected.hash_algo, expected.hash_value)

    def _commit(self, made: list[lanes.Lane], digests: base.Digests
                ) -> None:
        """All at once: each waits for a disk or a network of its own.

        What one has done is settled when it has, whatever the others do.
        """
        if self._order.all_must_succeed and any(
                lane.failure for lane in made):
            # Nothing is published only to be deleted again.
            made = [lane for lane in made if lane.failure is not None]
        with futures.ThreadPoolExecutor(len(made), 'commit') as pool:
            doing = {pool.submit(self._commit_one, lane, digests): lane
                     for lane in made}
            try:
                if self._order.all_must_succeed:
                    # Undone together, so every one is to be known.
                    futures.wait(doing)
                self._take_results(doing)
            except BaseException:
                _stop(made)
                raise

    def _take_results(self, doing: dict[futures.Future, lanes.Lane]) -> None:
        waiting = set(doing)
        while waiting:
            done, waiting = futures.wait(
                waiting, LOOK_SECONDS, futures.FIRST_COMPLETED)
            results = {doing[each].attempt: each.result for each in doing
                       if each in done}
            self._each(functools.partial(_result, results), list(results))
            if waiting:
                self._report(self._source.size, len(waiting))

    def _commit_one(self, lane: lanes.Lane, digests: base.Digests
                    ) -> base.Stored:
        lane.finish()
        expected, fd = self._source.expected, self._source.fd
        if lane.is_late and not (
                expected is not None and fd is not None
                and copying.still_unchanged(fd, expected.identity)):
            raise base.ObjectChanged(
                'the staged data was written to while it was stored')
        return lane.attempt.commit(digests)

    # -- progress

    def _report(self, done: int, stores: int) -> None:
        """``done`` bytes have gone to each of a number of stores."""
        self._check_stop()
        if self._order.progress is not None:
            before = len(self._outcome.stored) * self._source.size
            # The last byte is reported when the object is there.
            self._order.progress(
                min(before + done * stores, max(self._total - 1, before)),
                self._total)

    def _check_stop(self) -> None:
        if self._order.cancelled is not None and self._order.cancelled():
            raise base.Cancelled('storing the data was cancelled')

    def _report_stored(self) -> None:
        # Too late to be cancelled: the object is there.
        if self._order.progress is not None:
            done = len(self._outcome.stored) + len(self._outcome.failed)
            self._order.progress(
                min(done * self._source.size, self._total), self._total)


def _result(results: collections.abc.Mapping[
        base.Attempt, collections.abc.Callable[[], base.Stored]],
        attempt: base.Attempt) -> base.Stored:
    return results[attempt]()


def _stop(made: collections.abc.Iterable[lanes.Lane]) -> None:
    for lane in made:
        lane.stop()


def _quietly(action: collections.abc.Callable[[], object]) -> None:
    """Clean up after a failure that says more than this one would."""
    with contextlib.suppress(OSError, base.StoreError):
        action()


def _open_source(path: str) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
                     | os.O_NONBLOCK)
    except FileNotFoundError as failure:
        raise base.SourceGone('the staged data is not there') from failure
    except OSError as failure:
        raise base.SourceGone('the staged data cannot be read: '
                              f'{failure.strerror}') from failure
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise base.SourceGone('the staged data is not a file')
    return fd
