"""Command-line helpers behind the recipes of the justfile."""
