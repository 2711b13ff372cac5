"""Metrics of step scores against step labels, shared by `atomthink prm eval` and the tasks of critics."""
