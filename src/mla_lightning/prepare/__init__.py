"""Preparation of stores: from official files, or the user's own, to arrays that training reads."""
