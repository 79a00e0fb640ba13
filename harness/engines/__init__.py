"""Engines: how to start each inference server and where it answers; one file is one plugin."""
