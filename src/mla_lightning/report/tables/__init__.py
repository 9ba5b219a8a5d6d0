"""Kinds of reports: tables, tests of significance, and the sentences below them."""
