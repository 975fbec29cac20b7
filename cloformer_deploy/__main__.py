"""`python -m cloformer_deploy` is the command line too."""

from cloformer_deploy.cli import main

if __name__ == "__main__":
    main()
