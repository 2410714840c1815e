"""The maintainer's side: one source per chapter becomes lesson, exercises and solutions. Knows cells, no mathematics."""
