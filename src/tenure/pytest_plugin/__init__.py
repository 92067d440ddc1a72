"""The plugin for pytest: what it loads by itself is in `fixtures`, what those run in the modules beside it."""
