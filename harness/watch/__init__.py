"""Reads what goes on now: an exporter's page, this node's sensors, or a run that is going."""
