"""Files that leaderboards accept, from a run of lmms-eval."""
