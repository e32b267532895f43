"""copy-image: the bytes of an active image, to more of the stores."""


def get_flow(**kwargs):
    """One step, which leaves the image in the stores it was asked for.

    :param task_id: id of the import's task
    """
    # Imported where it is used: see glance_direct.
    from taskflow.patterns import linear_flow

    from glance_import.imports import runtime
    from glance_import.imports import storing

    return linear_flow.Flow(f"copy-image-{kwargs['task_id']}").add(
        storing.CopyImage(runtime.current(), kwargs['task_id'],
                          kwargs['task_type'], kwargs['image_id']))
