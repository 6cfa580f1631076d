"""`python -m choline_data` is `choline-data`."""

from choline_data.cli import main

if __name__ == "__main__":
    main()
