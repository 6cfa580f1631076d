"""Where data are stored: the home, remote files, and kept copies of them. Also claims on runs, and protection against
unsafe or changing files.
"""
