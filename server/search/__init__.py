"""Search parameters to index rows, query string to SQL."""
