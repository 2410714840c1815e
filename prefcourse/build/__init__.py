"""The maintainer's side: from one script per chapter to lesson, exercises and solutions. Knows cells, no maths."""
