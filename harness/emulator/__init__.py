"""An NVML with known true power: a C library for unchanged clients, and its twin in Python."""
