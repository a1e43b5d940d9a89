"""A page for one's own machine: `medzeroseg serve`.

Importing this package is light; model, torch and gradio come when the server starts.
"""
