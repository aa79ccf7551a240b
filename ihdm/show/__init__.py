"""Films, the page and the playground."""
