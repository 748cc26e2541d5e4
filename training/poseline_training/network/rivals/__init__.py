"""Rivals of the default body behind the same interface: features (B, T, F) → vectors (B, T, width), and `steps` where they
can run frame by frame. They are trained and evaluated by the same commands, on the same features, with the same heads.
"""
