"""Exporters: a finished run in other tools' formats; one file is one plugin."""
