"""A made-up inference server that answers like real ones and logs when it wrote each token."""
