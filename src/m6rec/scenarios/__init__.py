"""Ready experiments as TOML: data, not classes."""
