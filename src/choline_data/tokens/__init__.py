"""The tokens view: tokens are stored once per (revision, tokenizer, boundary), and rows of tokens are addressed by arithmetic.

`tokenizers` has the tokenizers, `token_store` the flat arrays. `packing` computes which tokens make row k. `token_stream`
serves rows by position, through the same order as samples. `trainer_formats` converts rows to the batches of trainers.
"""
