"""How plugins are found: hook specifications, the registry, the default plugins, typed arguments."""
