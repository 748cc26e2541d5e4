"""The workshop: from labelled motion on disk to a bundle that the server can run."""
