"""The filters in front of the API, stacked by glance-api-paste.ini."""
