"""What several searches share, or one search is built from: votes, verdicts, ranks, aggregates, tree statistics."""
