"""A finished run in a store of metrics: its time series, and the ways to send them."""
