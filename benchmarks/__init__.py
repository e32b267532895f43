"""Benchmarks: run them with ``tox -e bench``; nothing imports them."""

from tests import service

# What a command costs with its modules is part of what is measured.
service.Service.is_cold = True
