"""Where things are: the home, files elsewhere, and what guards them."""
