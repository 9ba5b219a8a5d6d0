"""The answers of this project about the paper's claims."""
