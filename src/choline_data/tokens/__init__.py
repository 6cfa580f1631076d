"""The tokens view: tokens are stored once for each (revision, tokenizer, boundary), and packed into rows that are found
by position.

`tokenizers` has the tokenizers, and `token_store` the flat arrays. `packing` computes which tokens make row k.
`token_stream` serves rows by position, in the same kind of order as samples. `trainer_formats` converts rows to the
batches of trainers.
"""
