"""From a request's bytes to a streamed answer's token events."""
