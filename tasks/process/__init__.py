"""Tasks that measure critics: ProcessBench, VisualProcessBench and PRMBench."""
