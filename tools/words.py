"""Words that the code does not use, since the field has better ones.

Looks through the package and its documentation for names that were once
home-made, and for sentences that cite a document which is not in the tree.
"""

import pathlib
import re
import subprocess  # nosec B404
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
# A pattern -> what to say instead.
WORDS = {
    r'\bcontract (section )?\d': 'cite an RFC, a Glance release or a page',
    r'\b[Tt]he (seed|guide)\b': 'cite an RFC, a Glance release or a page',
    r'\b(boxes|box: services)\b': 'services',
    r'\basked: call\.Call': 'request',
    r'\bclass (Asked|Told|Found|Known|Placed|Kept|Hung|Claimed|Claim)\b':
        'IsCancelled, Digests, StagedState, KnownLocation, StoreOutcome, '
        'DigestSnapshot, ImageParts, ExpectedDigest, Lease',
    r'\bdef _?(settle|settled|look|_look_up|look_up)\(': 'what it does',
    r'\bdef (hold|wanted)\((?!self\b)': 'check_fence, not_stopped',
    r'\bdef _?judge\(': 'inspect, check, run, validate',
    r'\b(several|patience|scratch)\.py\b': 'multi_store, retries, free_space',
    r'import (several|patience|extensions|scratch|direct)$':
        'multi_store, retries, entry_points, free_space, put_data',
    r'\bdef (near|ready)\(self, source': 'same_filesystem, adopt',
    r'\bclass (Errand|Bridge)\b': 'the work, the queue',
    r'\bGive it back\b': 'say what is given to whom',
}


def main() -> int:
    """Print each place; the exit status."""
    names = subprocess.run(  # nosec
        ['git', 'ls-files', 'glance_import', 'doc/source', 'etc'], cwd=TOP,
        check=True, capture_output=True, text=True).stdout.split('\n')
    found = 0
    for name in names:
        path = TOP / name
        if path.suffix not in ('.py', '.rst', '.conf', '.yaml', '.ini'):
            continue
        for number, line in enumerate(path.read_text().split('\n'), 1):
            for pattern, better in WORDS.items():
                if re.search(pattern, line):
                    print(f'{name}:{number}: {line.strip()} ({better})')
                    found += 1
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
