"""``python -m wholescene``."""

from wholescene.cli import main

if __name__ == "__main__":
    main()
