"""Many runs over a grid of settings: planned, run, tabled."""
