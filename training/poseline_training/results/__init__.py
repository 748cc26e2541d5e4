"""How every accuracy figure is made, kept and shown: `measure` makes a row, `pages` shows all rows as docs/results.md,
`reproduce` trains a row again. What is measured and which rows stand where is written in training/configs/results.yaml.
"""
