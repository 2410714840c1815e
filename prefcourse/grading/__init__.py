"""The instructor's side: submissions in, results and reports out. Knows no machine learning."""
