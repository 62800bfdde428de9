"""The version of the package, readable without importing a backend."""

__version__ = "0.1.0"
