"""Production: the daemon that pairs a node's joules with its engines' tokens, for Prometheus."""
