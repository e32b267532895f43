"""Import methods: how the bytes come to the staging area."""
