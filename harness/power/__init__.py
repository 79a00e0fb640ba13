"""Power sources: where joules are read; one file is one plugin."""
