"""Benchmarks: run them with ``tox -e bench``; nothing imports them."""
