"""An HTTP/1.1 server for WSGI applications with large bodies.
"""
