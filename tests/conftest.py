"""Options of the whole test run."""


def pytest_addoption(parser):
    parser.addoption(
        '--kills', type=int, default=30,
        help='how often the fault tests kill something (200: the long form)')
