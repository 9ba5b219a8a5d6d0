"""What several training rules have in common, each in one place."""
