"""Read run folders and result tables: everything that reports know comes from here."""
