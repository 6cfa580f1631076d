"""Which rank, worker and share of the stream this process reads."""
