"""What a token costs in dollars: formulas, inputs with their sources, and the split."""
