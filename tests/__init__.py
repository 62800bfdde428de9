"""Tests of keras_sn; KERAS_BACKEND says on which backend they run."""
