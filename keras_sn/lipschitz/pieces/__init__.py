"""Pieces: what a layer does, as far as its Lipschitz constant is concerned."""
