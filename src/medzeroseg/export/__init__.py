"""A trained model as files for others: `medzeroseg export`, and `from_pretrained`, which reads them.

Importing this package is light; torch and open_clip come on first use.
"""
