"""Everything that reads and samples with torch: checkpoints, encoding, KV cache, decoding, sampling."""
