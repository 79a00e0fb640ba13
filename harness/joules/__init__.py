"""What the energy of a window is made of: counters, ticks, edges, and what stays unknown."""
