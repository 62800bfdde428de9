"""The search for a lower bound of a Lipschitz constant."""
