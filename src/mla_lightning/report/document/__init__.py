"""Contents of reports, and their renderings: terminal, Markdown, LaTeX, CSV, HTML."""
