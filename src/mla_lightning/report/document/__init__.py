"""What a report consists of, as data, and its renderings: terminal, Markdown, LaTeX, CSV, HTML."""
