"""MiniHack: small NetHack levels as a text environment (extra `minihack`)."""
