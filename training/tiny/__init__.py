"""The embedded model, from nothing: `python -m atomthink_plugin.training.tiny --out DIR`."""
