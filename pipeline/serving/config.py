"""Limits of the server."""

from dataclasses import dataclass

from nightscribe.options import check_options, option


@dataclass(frozen=True, kw_only=True, slots=True)
class ServingConfig:
    """Addresses, keys and limits of the server."""

    host: str = option("127.0.0.1", "address to listen on; 0.0.0.0: all", common=True)
    port: int = option(8080, "port; 0: a free one", minimum=0, maximum=65535, common=True)
    keys: tuple[str, ...] = option(
        [], "API keys of clients; with none, and no keys_file, every client is accepted"
    )
    keys_file: str | None = option(
        None, "file with one API key a line, read again when it changes", common=True
    )
    origins: tuple[str, ...] = option(
        [], "web origins whose pages may connect, besides the server's own; '*': all"
    )
    max_key_sessions: int | None = option(
        None, "most sessions of one key at a time; null: no limit", minimum=1
    )
    max_connections: int = option(2048, "most connections at a time", minimum=1)
    max_message_bytes: int = option(16 * 2**20, "longest message of a client", minimum=1024)
    max_file_bytes: int = option(512 * 2**20, "longest file that is posted", minimum=1024)
    max_file_s: float = option(4 * 3600.0, "most audio of a file that is posted", above=0)
    max_files: int = option(8, "files transcribed or waiting at a time", minimum=1)
    file_slots: float = option(
        0.5, "share of the slots that files may use; live sessions come first", above=0, maximum=1
    )
    buffer_s: float = option(
        10.0, "audio of a session ahead of the engine; then its socket is not read", minimum=1
    )
    max_pending_messages: int = option(
        2000, "messages that a client may leave unread until it is disconnected", minimum=10
    )
    ping_s: float = option(10.0, "silence of the server until it sends a ping", above=0)
    dead_s: float = option(20.0, "silence of a client until it is disconnected", above=0)
    request_s: float = option(
        15.0, "silence of a connection without a whole request until it is closed", above=0
    )
    first_audio_s: float = option(30.0, "time until the first audio of a session", above=0)
    idle_s: float = option(120.0, "time without audio until a session ends", above=0)
    max_session_s: float | None = option(None, "longest session; null: no limit", above=0)
    drain_s: float = option(
        30.0, "time that sessions get to end by themselves after SIGTERM", minimum=0
    )
    log_text: bool = option(False, "log the words of sessions, too")

    def __post_init__(self) -> None:
        check_options(self, "serving")
