"""The revisions, oldest first by name; each can be run again."""
