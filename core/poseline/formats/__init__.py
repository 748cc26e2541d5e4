"""Readers and writers of files, one format each. A reader gives checked pose sequences."""
