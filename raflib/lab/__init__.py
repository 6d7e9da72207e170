"""What runs notebooks: what their parameters may be, where their results go, what is checked before they begin."""
