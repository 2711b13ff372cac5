"""Official submission files of the benchmarks, made from a run of lmms-eval."""
