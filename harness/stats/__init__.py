"""The statistics behind a verdict: effects over runs, resampling, tests that can fail."""
