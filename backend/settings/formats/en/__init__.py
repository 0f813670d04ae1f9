"""How values are written; found by FORMAT_MODULE_PATH."""
