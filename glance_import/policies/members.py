"""Rules about the projects an image is shared with."""

from glance_import.policies import base

_rule = base.rule
_ALL = '/v2/images/{image_id}/members'
_ONE = '/v2/images/{image_id}/members/{member_id}'

RULES = (
    _rule('add_member', base.ADMIN_OR_PROJECT_MEMBER,
          'Share an image with a project.', ('POST', _ALL)),
    _rule('get_member', base.ADMIN_OR_READER_OF_SHARED,
          'See one membership; also asked of each row of the list.',
          ('GET', _ONE), ('GET', _ALL), ('PUT', _ONE)),
    _rule('get_members', base.ADMIN_OR_READER_OF_SHARED,
          'List the projects an image is shared with.', ('GET', _ALL)),
    _rule('modify_member', base.ADMIN_OR_MEMBER_OF_SHARED,
          'Accept or reject an image that is shared.', ('PUT', _ONE)),
    _rule('delete_member', base.ADMIN_OR_PROJECT_MEMBER,
          'Share an image with a project no more.', ('DELETE', _ONE)),
)
