"""HTTP in, HTTP out. Knows the domain, never SQL or files."""
