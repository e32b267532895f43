"""One module a resource; each handler is a function of one Call."""
