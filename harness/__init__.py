"""joulemark: what a token of LLM inference costs, in joules and in dollars."""

__version__ = "0.1.0"
