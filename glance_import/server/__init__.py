"""An HTTP/1.1 server for WSGI applications with large bodies.

It knows nothing of what it serves and imports nothing of the rest of
``glance_import``: ``parent.serve`` is handed its settings (``settings``), a
function that makes the application, and one that reads the settings again.
Any other WSGI server can serve the same application; gunicorn and uWSGI are
tested with ``glance_import.wsgi``.

Why it exists, where others would be in the way of uploads and downloads of
many gigabytes:

* A body that was cut is told from one that ended, chunked or not: reading
  ``wsgi.input`` raises (``errors``).
* A slow upload is parked in a native thread of its own and occupies none of
  those that answer requests.
* Files are sent by sendfile in threads of their own, beside the event loop:
  neither a slow client nor a slow disk holds up a request.
* The workers are replaced at SIGHUP without refusing a connection or cutting
  a request, and one that hangs is replaced by a watchdog.
* Heads and chunks are parsed as strictly as RFC 9112 allows, so that no proxy
  in front reads other requests than this server.

Beside PEP 3333 an application finds these:

* ``wsgi.input_terminated`` is true: ``wsgi.input`` ends where the body does.
* ``wsgi.input.read_block(limit)`` returns what has come, without copying.
* ``wsgi.input`` raises a ``TimeoutError`` when the client is silent, a
  ``ConnectionError`` when the body was cut, and a ``ValueError`` when its
  framing is wrong. Each has a ``client_text``, a line that says so.
* ``wsgi.file_wrapper(...).app_iter_range(start, stop)`` is a part of a file;
  its ``on_close``, if it is set, is told how many bytes have been sent.
* ``server.again()``, where it is there, ends the call: the application is
  called again in a thread of the request's own, which may wait for something
  slow. Those that answer requests are few, and must not. To be called before
  anything has been done.
* An iterable of pieces with a method ``start(job)`` has its pieces made in
  threads that the method finds, not in those that answer requests.
* ``server.who``, set by the application: user and project, for the line of
  the access log; ``server.quiet``, that there shall be none.
* ``RAW_PATH_INFO`` is the path as it was sent, before decoding.

An application that has a method ``close`` is told by it that its process
ends, when its last request has.
"""
