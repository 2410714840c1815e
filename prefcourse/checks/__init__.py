"""Exercises and their checks: cases in, values shown, words about what they mean. Knows no machine learning."""
