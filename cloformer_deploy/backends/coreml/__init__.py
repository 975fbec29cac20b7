"""Core ML packages: writing, describing, quantizing and running them."""
