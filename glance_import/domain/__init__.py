"""Images, imports and tasks: rules without HTTP.

Plain functions over plain records. They may use the database, the staging
area and the stores they are handed; they know nothing of requests or flows.
"""
