"""The guided walk from one token's joules to dollars, megawatts and other accelerators."""
