"""Room that is needed, beside the room that there is."""

import pytest

from glance_import.domain import free_space
from glance_import import errors
from tests import mounts


def test_room(tmp_path):
    with mounts.memory(tmp_path / 'small', '4M') as place:
        free = free_space.free(str(place))
        assert 0 < free <= 4 << 20
        free_space.require(str(place), free, 'to convert the image')
        with pytest.raises(errors.TooLarge) as caught:
            free_space.require(str(place), free + 1, 'to convert the image')
        assert f'needs {free + 1} bytes, and {free} bytes are free' in str(
            caught.value)
        (place / 'file').write_bytes(bytes(1 << 20))
        assert free_space.free(str(place)) <= free - (1 << 20)
