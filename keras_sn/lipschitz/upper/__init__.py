"""Methods that bound a Lipschitz constant from above."""
