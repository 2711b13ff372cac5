"""Reports about runs: pages with search trees, comparisons, and test-time scaling curves."""
