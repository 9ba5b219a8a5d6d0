"""What MLA does to the shared head's gradient before each step."""
