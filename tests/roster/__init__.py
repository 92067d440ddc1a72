"""roster through its routes, its servers and its mistakes."""
