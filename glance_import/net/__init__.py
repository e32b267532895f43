"""Reaching other servers: which may be reached, and how bytes come from them.

Knows nothing of images. What a URL itself shows is judged by ``urls``, what
the resolver says by ``addresses``, and ``client`` connects to nothing that
was not judged.
"""
