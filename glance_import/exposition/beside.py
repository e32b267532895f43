"""The process that serves metrics, kept alive beside a service.

Each service on a node starts one, and the first of those with one state_path
has it: a lock there says so. It ends with who started it. Touches that lock
and that process.
"""

from __future__ import annotations

import os
import signal
import subprocess  # nosec B404
import threading
import time

from oslo_config import cfg
from oslo_log import log

from glance_import.exposition import listening
from glance_import.imports import embedded
from glance_import.imports import queue_watch
from glance_import import state

LOG = log.getLogger(__name__)
LOCK_FILE = 'metrics.lock'
MODULE = 'glance_import.cmd.exporter'
STOP_SECONDS = 5.0


class Exporter:
    """Does nothing while ``[metrics] bind_port`` is 0."""

    def __init__(self, conf: cfg.ConfigOpts, arguments: list[str]) -> None:
        self._conf = conf
        self._arguments = arguments
        self._stop = threading.Event()
        self._child: subprocess.Popen | None = None
        self._lock_fd: int | None = None
        self._locking = threading.Lock()
        self._pid = os.getpid()
        # The process follows the death of the thread that started it.
        self._thread = threading.Thread(target=self._run, daemon=True,
                                        name='metrics')

    def start(self) -> None:
        """Return at once; the rest happens in a thread."""
        embedded.start_without_signals(self._thread)

    def stop(self) -> None:
        """End the process, and wait for it a little."""
        self._stop.set()
        self._end_child()
        child = self._child
        if child is not None and os.getpid() == self._pid:
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()

    def check(self, fresh: cfg.ConfigOpts) -> None:
        """Metrics could be served as ``fresh`` has it, if that is done here.

        :raises listening.CannotListen: they could not
        :raises OSError, state.StateError: nor could they in state_path
        """
        if fresh.metrics.bind_port and self._has_lock():
            listening.check(self._conf, fresh)

    def reload(self, conf: cfg.ConfigOpts) -> None:
        """Another takes its place, and reads the files; ``conf`` is them."""
        self._conf = conf
        self._end_child()

    def _end_child(self) -> None:
        child = self._child
        if child is not None and os.getpid() == self._pid:
            child.terminate()

    def forget(self) -> None:
        """In a forked child: lock and process are the parent's."""
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _run(self) -> None:
        while not self._stop.is_set():
            if self._conf.metrics.bind_port and self._take_lock():
                self._serve_once()
            self._stop.wait(embedded.RETRY_SECONDS)

    def _serve_once(self) -> None:
        begun = time.monotonic()
        self._child = embedded.spawn(embedded.command(
            [f'{embedded.FLAG}{os.getpid()}', *self._arguments], MODULE))
        if self._stop.is_set():
            self._child.terminate()
        status = self._child.wait()
        if self._stop.is_set() or status == -signal.SIGTERM:
            return
        LOG.error('the process that serves metrics ended with status %d',
                  status)
        if time.monotonic() - begun < embedded.MAX_RETRY_SECONDS:
            self._stop.wait(embedded.MAX_RETRY_SECONDS)

    def _take_lock(self) -> bool:
        try:
            return self._has_lock()
        except (OSError, state.StateError) as failure:
            trouble = failure
        LOG.error('metrics are not served: %s', trouble)
        self._stop.wait(embedded.MAX_RETRY_SECONDS)
        return False

    def _has_lock(self) -> bool:
        with self._locking:
            if self._lock_fd is None:
                self._lock_fd = queue_watch.take_lock(self._conf.state_path,
                                                      LOCK_FILE)
            return self._lock_fd is not None
