"""The streaming network. Every part runs over full sequences (training) and frame by frame (serving), with the same
weights and the same result to 1e-5; `steps` turns a trained network into the step graphs of a bundle.
"""
