import warnings

# torch and lightning warn of their own internals while they are imported.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning  # noqa: F401
    import torch

torch.set_num_threads(1)
