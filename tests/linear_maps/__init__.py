"""Tests of keras_sn.linear_maps."""
