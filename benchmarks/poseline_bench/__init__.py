"""Speed and accuracy side by side with rivals. Never a timed test: ratios measured in one run, said with their peak."""
