"""Many clients at once: nothing is lost, nothing is doubled, nobody gets an error."""
