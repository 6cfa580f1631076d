"""Code that several formats share: files, archive members, records, rows, text encodings and media."""
