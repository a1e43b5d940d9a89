"""What mkdocs calls while it builds the site: equations, and the reference of the command line."""
