"""Searches, one per file; each sees a question only through `atomthink_plugin.api.SearchTree`."""
