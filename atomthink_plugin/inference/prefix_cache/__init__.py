"""Reading what is new: keys and values of earlier tokens are kept and forked."""
