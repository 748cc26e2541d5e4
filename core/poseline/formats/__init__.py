"""Readers and writers of files, one format each. A reader gives pose sequences, checked; nothing here knows a network."""
