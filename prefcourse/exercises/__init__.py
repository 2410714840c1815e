"""The exercises, a package per chapter: cases in `chapterNN`, answers apart in `chapterNN.answers`."""
