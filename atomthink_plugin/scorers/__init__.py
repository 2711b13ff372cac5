"""Scorers, one kind per file.

A scorer reads all steps of a path in their order: those that a policy sampled, those that a search wrote
(`SearchTree.write`), and replies to something asked (`SearchTree.ask`) that are part of the path. Each is one step of
the PRM's layout and gets one tag. The question is that of the path's own root: below a further root
(`SearchTree.begin`) it has the options in that root's order.
"""
