"""Contract plugins that come with the service.

Written as anybody's would be: against the contract and the standard library
alone, run in the same sandbox. An operator switches one on by its name.
"""
