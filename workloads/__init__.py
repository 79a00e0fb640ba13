"""Workloads: what is asked of the engine; one file is one plugin, presets beside them."""
