"""The embedded model, made from scratch by `atomthink train tiny`."""
