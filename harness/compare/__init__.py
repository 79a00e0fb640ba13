"""Two sets of runs held against each other: likeness, thresholds, sentences."""
