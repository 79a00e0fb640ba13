"""Base and candidate run in turns until the verdict is firm."""
