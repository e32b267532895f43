"""web-download: the service fetches the bytes from a URL."""


def get_flow(**kwargs):
    """One step, which leaves complete staged data.

    :param task_id: id of the import's task
    :param import_req: the request, with ``uri`` in its ``method``
    """
    # Imported where it is used: see glance_direct.
    from taskflow.patterns import linear_flow

    from glance_import.imports import downloading

    return linear_flow.Flow(f"web-download-{kwargs['task_id']}").add(
        downloading.WebDownload(
            kwargs['import_req'], kwargs['task_id'], kwargs['task_type'],
            kwargs['image_id']))
