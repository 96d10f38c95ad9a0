"""``python -m stoker``: the command line."""

from stoker.faces.command_line import main

if __name__ == "__main__":
    main()
