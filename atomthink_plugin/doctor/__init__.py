"""`atomthink doctor`: what is installed, what is reachable, and what would fail."""
