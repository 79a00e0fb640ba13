"""A batch job on one node: its counters at both ends, and what it took between them."""
