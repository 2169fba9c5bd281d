"""Live speech-to-text over sockets: two processes, one of them with the engine. Knows no Ray.

Reading guide:

config         options under `serving.`
rings          memory that both processes share: a ring of frames for each channel
engine_process the process with the model: pushed frames in, output of steps back
engine_client  the other end of it, in the front process: channels for sessions
session        one stream of audio: samples in, steps and words out
files          whole files, cut into shards that are sessions of their own
pcm            samples of the wire to int16 at 24 kHz
access         keys, origins and limits
front          the HTTP server: routes, health, shutdown
websockets     keepalive, limits and bounded sending, for both protocols
kyutai         the protocol of moshi-server
transcriptions OpenAI's endpoint for files
realtime       OpenAI's sessions for live audio; realtime_settings: what clients set of them
metrics        what /metrics says
client         a client of the Kyutai protocol
"""
