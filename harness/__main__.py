"""`python -m harness` is the same program as `joulemark`."""

from .cli import main

main()
