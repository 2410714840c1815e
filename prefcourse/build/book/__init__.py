"""The course as web pages, for reading without running: chapters, questions, syllabus and reference, with a search."""
