"""Features of files and of data sets: computed, stored, read and searched."""
