"""Evidence: run folders in, tables and figures out. Reads files; knows no model and no torch."""
