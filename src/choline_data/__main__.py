"""`python -m choline_data` runs the same program as `choline-data`."""

from choline_data.cli import main

if __name__ == "__main__":
    main()
