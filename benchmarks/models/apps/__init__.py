"""The programs that are compared: each answers `/search` by the same model, and `/ping` without it."""
