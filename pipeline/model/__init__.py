"""Everything that is Kyutai's: Mimi, the language model, checkpoints, words.

Read `speech_to_text` first, the plain way: every stream in lockstep, what faster ways are held
against. Below it stand `mimi` and `language_model`, both over `transformer`, `attention` and
`mixing`; above it, for the engine, `encoding` (Mimi with slots), `slotted` (what models with slots
share), `stepping` and `leaping` (how they make their steps). `loading` chooses numbers and slots.
"""
