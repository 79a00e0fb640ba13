"""What a split into prefill, decode and idling is made of: bins of power, work in them, checks."""
