"""Reports: tables, figures and pages, made from run folders without models and without torch."""
