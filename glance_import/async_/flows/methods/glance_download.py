"""glance-download: the bytes come from the image service of another region."""


def get_flow(**kwargs):
    """Two steps: what the image is there, and its bytes.

    :param task_id: id of the import's task
    :param import_req: the request, with ``glance_region`` and
        ``glance_image_id`` in its ``method``
    """
    # Imported where it is used: see glance_direct.
    from taskflow.patterns import linear_flow

    from glance_import.imports import downloading

    given = (kwargs['import_req'], kwargs['task_id'], kwargs['task_type'],
             kwargs['image_id'])
    return linear_flow.Flow(f"glance-download-{kwargs['task_id']}").add(
        downloading.ImportMetadata(*given), downloading.GlanceDownload(*given))
