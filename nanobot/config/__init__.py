"""config.json: `schema` says what may be in it, `loader` reads and changes it."""
