"""Prefix cache: keys and values of earlier tokens are kept and forked, so that only new tokens are prefilled."""
