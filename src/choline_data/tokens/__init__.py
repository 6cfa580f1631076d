"""The tokens view: tokens stored once per (revision, tokenizer, boundary), rows of them addressed by arithmetic.

`tokenizers` knows the tokenizers, `store` the flat arrays, `packing` which tokens make row k, `stream` serves rows by
position through the same order as samples.
"""
