"""The learner's side: the saved notebooks, hints, progress. Knows files and words, no mathematics and no models."""
