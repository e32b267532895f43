"""[cors]: what web pages of another origin may send and read by default.

The options are oslo.middleware's; here are the defaults that this service
gives them. They hold for the origins in allowed_origin, of which there is
none by default. Touches nothing.
"""

# HEAD says where an upload stands.
ALLOW_METHODS = ('GET', 'HEAD', 'PUT', 'POST', 'DELETE', 'PATCH', 'OPTIONS')

# Glance's defaults, and what the API reads.
ALLOW_HEADERS = (
    'Content-MD5', 'Image-ID', 'X-Image-Meta-Store', 'X-Storage-Token',
    'Accept-Encoding', 'X-Auth-Token', 'X-Identity-Status', 'X-Roles',
    'X-Service-Catalog', 'X-User-Id', 'X-Tenant-Id',
    'X-OpenStack-Request-ID', 'X-OpenStack-Image-Size', 'Range',
    'Content-Range', 'Repr-Digest', 'Content-Digest', 'Authorization',
    'X-Service-Token',
    # What Horizon adds to every request of its pages, until it learned not
    # to.
    'X-Requested-With', 'X-CSRFToken',
    # tus 1.0 and its extensions, and what its clients can be told to send.
    'Tus-Resumable', 'Upload-Length', 'Upload-Offset', 'Upload-Defer-Length',
    'Upload-Metadata', 'Upload-Checksum', 'Upload-Concat',
    'X-HTTP-Method-Override', 'X-Request-ID')

EXPOSE_HEADERS = (
    'X-Image-Meta-Checksum', 'X-Auth-Token', 'X-Subject-Token',
    'X-Service-Token', 'OpenStack-image-import-methods',
    'OpenStack-image-store-ids', 'X-OpenStack-Request-ID', 'Location',
    'Content-MD5', 'Content-Range', 'Accept-Ranges', 'Allow', 'Retry-After',
    # tus 1.0 and its extensions
    'Tus-Resumable', 'Tus-Version', 'Tus-Extension', 'Tus-Max-Size',
    'Tus-Checksum-Algorithm', 'Upload-Offset', 'Upload-Length',
    'Upload-Defer-Length', 'Upload-Expires')
