"""Features of files and of data sets: computation, files of features, and search."""
