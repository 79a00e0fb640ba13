"""The physical limit of a token on given silicon, and how far a measured point is from it."""
