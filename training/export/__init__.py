"""Chains of steps as training records, published records as chains, and how good chains are."""
