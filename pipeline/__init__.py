"""Recordings in, transcripts out.

plan (list once) -> fetch, decode, cut into shards -> [GPU actor: Mimi -> language model -> words]
-> committed parts -> stitched transcripts.
"""
