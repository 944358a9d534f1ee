"""Captured rows beside the reference of the version that answered them: what comes of it."""
