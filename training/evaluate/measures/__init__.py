"""One file per measure; each is a function of scored chains and returns numbers with counts and intervals."""
