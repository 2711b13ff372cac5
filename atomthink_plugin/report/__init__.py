"""What a run shows: its questions, its trees, comparisons with other runs, and what each token bought."""
