"""Artifacts for serving: written, run to compare, put into place."""
