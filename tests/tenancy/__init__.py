"""Nobody sees what is not theirs, and everybody sees all of what is."""
