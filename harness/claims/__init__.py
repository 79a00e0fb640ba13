"""Published claims and results, recomputed from their own data."""
