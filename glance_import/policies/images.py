"""Rules about images and their data."""

from oslo_policy import policy

from glance_import.policies import base


def _rule(name, check, description, *operations):
    return policy.DocumentedRuleDefault(
        name, check, description,
        [{'method': method, 'path': path} for method, path in operations])


RULES = (
    _rule('add_image',
          f'{base.ADMIN} or ({base.PROJECT_MEMBER} and '
          'project_id:%(owner)s)',
          'Create an image.', ('POST', '/v2/images')),
    _rule('get_image', base.ADMIN_OR_MAY_SEE, 'Show an image.',
          ('GET', '/v2/images/{image_id}')),
    _rule('get_images', base.ADMIN_OR_PROJECT_READER, 'List images.',
          ('GET', '/v2/images')),
    _rule('modify_image', base.ADMIN_OR_PROJECT_MEMBER,
          'Change an image, stage data for it or import it.',
          ('PATCH', '/v2/images/{image_id}'),
          ('PUT', '/v2/images/{image_id}/tags/{tag}'),
          ('DELETE', '/v2/images/{image_id}/tags/{tag}'),
          ('PUT', '/v2/images/{image_id}/stage'),
          ('HEAD', '/v2/images/{image_id}/stage'),
          ('PATCH', '/v2/images/{image_id}/stage'),
          ('DELETE', '/v2/images/{image_id}/stage'),
          ('POST', '/v2/images/{image_id}/import'),
          ('DELETE', '/v2/images/{image_id}/import')),
    _rule('delete_image', base.ADMIN_OR_PROJECT_MEMBER, 'Delete an image.',
          ('DELETE', '/v2/images/{image_id}')),
    _rule('publicize_image', base.ADMIN, 'Make an image public.',
          ('POST', '/v2/images'), ('PATCH', '/v2/images/{image_id}')),
    _rule('communitize_image', base.ADMIN_OR_PROJECT_MEMBER,
          'Make an image a community image.', ('POST', '/v2/images'),
          ('PATCH', '/v2/images/{image_id}')),
    _rule('upload_image', base.ADMIN_OR_PROJECT_MEMBER,
          'Put data into an image without an import.',
          ('PUT', '/v2/images/{image_id}/file')),
    _rule('download_image', base.ADMIN_OR_MAY_READ_DATA,
          'Read the data of an image.',
          ('GET', '/v2/images/{image_id}/file'),
          ('HEAD', '/v2/images/{image_id}/file')),
    _rule('copy_image', base.ADMIN,
          'Copy the data of an active image to more stores.',
          ('POST', '/v2/images/{image_id}/import')),
    _rule('delete_image_location', base.ADMIN,
          'Delete the copy of an image in one of its stores.',
          ('DELETE', '/v2/stores/{store_id}/{image_id}')),
    _rule('stores_info_detail', base.ADMIN,
          'See the types and options of the stores.',
          ('GET', '/v2/info/stores/detail')),
    _rule('get_image_location', base.ADMIN_OR_PROJECT_READER,
          'See where the data of an image is, when that is shown at all.',
          ('GET', '/v2/images/{image_id}'), ('GET', '/v2/images')),
    _rule('set_image_location', base.ADMIN_OR_PROJECT_MEMBER,
          'Say where the data of an image is, when that is shown at all.',
          ('PATCH', '/v2/images/{image_id}')),
    _rule('add_image_location', base.SERVICE_OR_PROJECT_MEMBER,
          'Give a queued image data that lies in a store already.',
          ('POST', '/v2/images/{image_id}/locations')),
    _rule('fetch_image_location', base.SERVICE,
          'See where the data of an image is, as another service.',
          ('GET', '/v2/images/{image_id}/locations')),
    _rule('deactivate', base.ADMIN_OR_PROJECT_MEMBER,
          'Keep the data of an image from everybody but administrators.',
          ('POST', '/v2/images/{image_id}/actions/deactivate')),
    _rule('reactivate', base.ADMIN_OR_PROJECT_MEMBER,
          'Give it back.',
          ('POST', '/v2/images/{image_id}/actions/reactivate')),
)
