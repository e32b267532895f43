"""What each store was seen to promise, as a table. Run as a program.

    python tests/stores/promises.py

runs the tests of the stores, and prints for each promise and store how many
of its tests have passed; "-" where there is none. Other words go to pytest.
"""

from __future__ import annotations

import collections
import sys

import pytest

# By file and class of the tests.
STORES = {
    'file': ('test_file_store.py::',),
    'rbd': ('test_rbd_store.py::', 'test_rbd.py::'),
    's3 (moto)': ('test_s3_store.py::TestS3Store::',
                  'test_s3_store.py::TestS3StoreInParts::',
                  'test_s3_store.py::test_'),
    's3 (radosgw)': ('test_s3_store.py::TestS3StoreOnRgw',),
    'swift': ('test_swift_store.py::',),
    'http': ('test_library.py::test_http', 'test_web_download.py::'),
}
PROMISES = {
    'bytes as they were': (
        'test_round_trip', 'test_empty_object', 'test_holes_are_zeros',
        'test_sizes', 'test_many_parts',
        'test_segments_that_are_no_whole_ones'),
    'digests of what was stored': (
        'test_changed_source_gives_its_own_digests',
        'test_without_legacy_checksum'),
    'ranges': (
        'test_read_in_pieces_and_past_the_end',
        'test_in_segments_and_by_ranges'),
    'holes take no room': ('test_holes_are_kept', 'test_zeros_take_no_room'),
    'nothing before all of it': (
        'test_cancelled_leaves_nothing', 'test_given_up_in_the_middle',
        'test_named_by_the_image_and_readable_at_the_end'),
    'attempts apart': (
        'test_same_attempt_again_is_the_same_object',
        'test_next_attempt_adopts_what_is_right',
        'test_next_attempt_leaves_what_is_different',
        'test_a_stale_attempt_does_not_replace', 'test_never_replaces'),
    'killed in the middle': (
        'test_killed_at_a_step_and_tried_again',
        'test_what_was_killed_is_found', 'test_what_a_killed_attempt_left',
        'test_killed_in_the_middle'),
    'swept': (
        'test_sweep_finds_earlier_attempts_only',
        'test_sweep_touches_earlier_names_only',
        'test_what_nobody_recorded_is_found',
        'test_what_others_named_is_neither_replaced_nor_swept'),
    'deleted': ('test_delete', 'test_deleted_while_it_is_frozen',
                'test_deleted_while_the_cluster_stands_still'),
    'in use is not deleted': (
        'test_in_use_by_a_clone', 'test_in_use_by_another_snapshot',
        'test_cloned_while_it_is_being_deleted', 'test_in_use'),
    'full': ('test_full_disk_leaves_nothing', 'test_over_quota',
             'test_no_room', 'test_sentences'),
    'away': ('test_server_down', 'test_a_cut_connection_is_mended',
             'test_away_when_it_is_made', 'test_frozen',
             'test_frozen_for_a_while_in_the_middle',
             'test_a_proxy_that_dies_in_the_middle', 'test_sentences'),
    'names of others': ('test_foreign_locations', 'test_accepts_its_own',
                        'test_names_that_are_no_image_ids'),
    'read only': ('test_a_read_only_store_takes_nothing',
                  'test_http_is_read_only'),
}
FILES = ('tests/stores', 'tests/functional/test_rbd.py')


class Table:
    """Hears of each test that has run."""

    def __init__(self) -> None:
        self.seen: dict = collections.defaultdict(collections.Counter)
        self.names: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != 'call' and report.passed:
            return
        name = report.nodeid.rpartition('::')[2].partition('[')[0]
        self.names.add(name)
        for store, places in STORES.items():
            if any(place in report.nodeid for place in places):
                for promise, names in PROMISES.items():
                    if name in names:
                        self.seen[promise, store][report.outcome] += 1

    def lines(self) -> list[list[str]]:
        return [['', *STORES]] + [
            [promise, *(_cell(self.seen[promise, store])
                        for store in STORES)] for promise in PROMISES]

    def unknown(self) -> set[str]:
        """Names of the table that are those of no test."""
        return {name for names in PROMISES.values()
                for name in names} - self.names


def _cell(seen: collections.Counter) -> str:
    bad = seen['failed']
    return (f'{bad} FAILED' if bad else str(seen['passed'])
            if seen['passed'] else 'skipped' if seen['skipped'] else '-')


def main(words: list[str]) -> int:
    table = Table()
    status = pytest.main(['-q', '--no-header', *FILES, *words], [table])
    lines = table.lines()
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print()
    for line in lines:
        print('  '.join(text.ljust(width) for text, width
                        in zip(line, widths, strict=True)).rstrip())
    if table.unknown():
        print('there are no tests named', *sorted(table.unknown()))
    return int(status) or bool(table.unknown())


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
