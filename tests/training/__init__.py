"""Tests of what is used around a layer in training."""
