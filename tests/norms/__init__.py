"""Tests of keras_sn.norms."""
