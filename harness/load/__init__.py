"""The load loop: what it sends, its audit, and whether its host can be trusted with it."""
