"""add-location: an image whose data lies in a store already.

Not a method that users name: POST /v2/images/{image_id}/locations asks for
it.
"""


def get_flow(**kwargs):
    """One step, which reads the data and knows its digests then.

    :param task_id: id of the task
    """
    # Imported where it is used: see glance_direct.
    from taskflow.patterns import linear_flow

    from glance_import.imports import runtime
    from glance_import.imports import storing

    return linear_flow.Flow(f"add-location-{kwargs['task_id']}").add(
        storing.AddLocation(runtime.current(), kwargs['task_id'],
                            kwargs['task_type'], kwargs['image_id']))
