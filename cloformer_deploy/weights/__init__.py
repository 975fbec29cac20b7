"""Reading weights files and finding the weights that ship with the package."""
