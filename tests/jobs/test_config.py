"""The words of the command line become a checked configuration, or one error message."""

from dataclasses import dataclass, field
from importlib import import_module

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from nightscribe.engine.config import EngineConfig
from nightscribe.jobs.shell.command import help_of, run_job
from nightscribe.jobs.shell.config import ConfigError, Job, configurations, defaults


@dataclass(kw_only=True, slots=True)
class Accent:
    """What a key of one's own may hold."""

    sounds: list[int] = field(default_factory=list)
    strength: int = 1


@dataclass(kw_only=True, slots=True)
class VoiceConfig:
    """A group without named choices."""

    pitch: int = field(default=3, metadata={"help": "how high"})
    domains: dict[str, list[int]] = field(default_factory=dict, metadata={"help": "by name"})
    accents: dict[str, Accent] = field(default_factory=dict, metadata={"help": "by name"})


@dataclass(kw_only=True, slots=True)
class ProbeConfig:
    """A job that stands for all jobs."""

    audio: str = field(default=MISSING, metadata={"help": "the recording to hear"})
    format: str = field(default="text", metadata={"help": "how", "choices": ("text", "json")})
    tokens: bool = field(default=False, metadata={"help": "keep the tokens"})
    limit_s: float | None = field(default=None, metadata={"help": "hear no more than this"})
    names: list[str] = field(default_factory=list, metadata={"help": "some names"})
    voice: VoiceConfig = field(default_factory=VoiceConfig, metadata={"help": "which voice"})
    engine: EngineConfig = field(default_factory=EngineConfig, metadata={"help": "where it runs"})


@pytest.fixture
def ran():
    return []


@pytest.fixture
def job(ran):
    groups = ["probe_schema", {"engine": "cpu"}, "_self_"]
    ConfigStore.instance().store(name="probe", node={"defaults": groups})
    return Job(name="probe", config=ProbeConfig, run=ran.append, positional=("audio",))


def one(job, *words):
    [config] = configurations(job, list(words))
    return config


def said(job, capsys, *words):
    """Exit code and what the command wrote."""
    with pytest.raises(SystemExit) as ended:
        run_job("probe", lambda: job, list(words))
    return ended.value.code, *capsys.readouterr()


def test_a_group_and_its_keys_can_be_set_together(job):
    config = one(job, "a.wav", "engine=gpu", "engine.num_slots=7", "voice.pitch=1")
    assert config.audio == "a.wav"
    assert (config.engine.device, config.engine.dtype) == ("cuda", "bfloat16")
    assert (config.engine.num_slots, config.voice.pitch) == (7, 1)
    assert type(config) is ProbeConfig
    assert type(config.engine) is EngineConfig


@pytest.mark.parametrize(
    "name",
    [
        "a talk (final), 3=4 [x].mp3",
        "it's {here}.wav",
        'back\\slash\\".wav',
        "end\\",
        "end\\'",
        "comma,comma",
        "å π.ogg",
        "null and void",
        "12",
        "-",
    ],
)
def test_file_names_are_taken_literally(job, name):
    if "=" not in name:
        assert one(job, name).audio == name
    assert one(job, f"audio={name}").audio == name


def test_a_path_may_hold_an_equals_sign(job):
    assert one(job, "./a=b.wav").audio == "./a=b.wav"


def test_null_lists_and_mappings_can_be_given(job):
    config = one(job, "a", "limit_s=null", "names=[x,y]", "voice.domains.law=[1,2]")
    assert (config.limit_s, config.names) == (None, ["x", "y"])
    assert config.voice.domains == {"law": [1, 2]}


@pytest.mark.parametrize("command", ["show", "export", "report"])
def test_a_plain_key_may_have_the_name_of_a_group_of_other_commands(command, capsys):
    job = import_module(f"nightscribe.jobs.{command}").JOB
    words = ["run=/a", "to=/b"] if command == "export" else ["run=/a"]
    (config,) = configurations(job, [*words, "speakers=[Agent,Caller]"])
    assert config.speakers == ["Agent", "Caller"]
    with pytest.raises(ConfigError, match=r"speakers must be a list such as \[a,b\], not Agent"):
        configurations(job, [*words, "speakers=Agent"])


def test_the_values_of_a_mapping_may_have_keys(job):
    words = ("voice.accents.east.sounds=[1,2]", "voice.accents.east.strength=3")
    assert one(job, "a", *words).voice.accents == {"east": Accent(sounds=[1, 2], strength=3)}
    with pytest.raises(ConfigError, match="strength"):
        one(job, "a", "voice.accents.east.strength=much")


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("engine.num_slot=4", "there is no key engine.num_slot; did you mean engine.num_slots?"),
        ("num_slots=4", "there is no key num_slots; did you mean engine.num_slots?"),
        ("formt=json", "there is no key formt; did you mean format?"),
        ("zzz=1", "there is no key zzz; see --help"),
        ("engine.num_slots=many", "engine.num_slots must be a whole number or null, not many"),
        ("engine.num_slots=2.5", "engine.num_slots must be a whole number or null, not 2.5"),
        ("engine.num_slots=0", "engine.num_slots must be positive, got 0"),
        ("tokens=perhaps", "tokens must be true or false, not perhaps"),
        ("limit_s=long", "limit_s must be a number or null, not long"),
        ("names=x", "names must be a list such as [a,b], not x"),
        ("format=xml", "format must be one of text, json, not xml"),
        ("engine.dtype=float61", "engine.dtype must be one of auto, float32, bfloat16, float16"),
        ("engine=tpu", "there is no engine tpu; there are auto, cpu, gpu"),
        ("voice=high", "voice is a group of keys; set one of them, as in voice.KEY=VALUE"),
        ("+extra=1", "+extra=1: keys can be set, but not added or removed"),
        ("+format=json", "+format=json: keys can be set"),
        ("~format", "~format: keys can be set, but not added or removed"),
        ("tokens=true,false", "tokens=true,false: several values need --multirun"),
        ("names=[x", "names=[x: the value cannot be read"),
        ("format", "'format' is not of the form key=value; did you mean format?"),
        ("b.wav", "'b.wav' is not of the form key=value; the only positional arguments are AUDIO"),
        ("--format=json", "there is no option --format=json; write format=VALUE"),
        ("--multrun", "there is no option --multrun; did you mean --multirun?"),
        ("format=${nowhere}", "nowhere"),
    ],
)
def test_a_wrong_word_is_one_sentence_that_names_it(job, capsys, word, sentence):
    code, out, err = said(job, capsys, "a.wav", word)
    assert code == 2
    assert out == ""
    assert err.startswith("nightscribe: ")
    assert err.count("\n") == 1
    assert sentence in err


def test_of_several_missing_keys_the_first_is_named(job):
    @dataclass(kw_only=True, slots=True)
    class Both:
        """A job that needs two things."""

        run: str = MISSING
        recording: str = MISSING

    both = Job(name="probe", config=Both, run=lambda config: None, positional=("run", "recording"))
    ConfigStore.instance().store(name="probe", node={"defaults": ["probe_schema", "_self_"]})
    with pytest.raises(ConfigError, match="run must be given"):
        configurations(both, [])


def test_a_missing_key_is_named_with_its_meaning(job, capsys):
    code, _, err = said(job, capsys, "format=json")
    assert code == 2
    assert err == "nightscribe: audio must be given (the recording to hear)\n"


def test_a_missing_group_is_named_with_its_choices_first():
    job = import_module("nightscribe.jobs.file").JOB
    with pytest.raises(ConfigError, match=r"^model=NAME must be given, one of .*tiny; or model\."):
        configurations(job, ["a.wav"])


def test_errors_of_the_job_are_one_sentence_too(job, capsys):
    def fail(config):
        raise FileNotFoundError(2, "No such file", config.audio)

    failing = Job(name="probe", config=ProbeConfig, run=fail, positional=("audio",))
    code, _, err = said(failing, capsys, "a.wav")
    assert (code, err) == (2, "nightscribe: [Errno 2] No such file: 'a.wav'\n")


def test_errors_hold_no_control_characters(job, capsys):
    def fail(config):
        raise ValueError("s3://b/\x1b[2J\x07gone.wav: there is\nno such file")

    failing = Job(name="probe", config=ProbeConfig, run=fail, positional=("audio",))
    err = said(failing, capsys, "a.wav")[2]
    assert err == "nightscribe: s3://b/?[2J?gone.wav: there is no such file\n"


def test_bugs_keep_their_traceback():
    def fail(config):
        raise KeyError("a bug")

    failing = Job(name="probe", config=ProbeConfig, run=fail, positional=("audio",))
    with pytest.raises(KeyError):
        run_job("probe", lambda: failing, ["a.wav"])


def test_multirun_runs_every_combination(job, ran, capsys):
    words = ("-m", "a, b.wav", "tokens=true,false", "engine=cpu,gpu")
    code, _, err = said(job, capsys, *words)
    assert code == 0
    assert err.splitlines()[0].endswith("tokens=True engine=cpu")
    assert err.count("# ") == 4
    assert [(c.audio, c.tokens, c.engine.device) for c in ran] == [
        ("a, b.wav", True, "cpu"),
        ("a, b.wav", True, "cuda"),
        ("a, b.wav", False, "cpu"),
        ("a, b.wav", False, "cuda"),
    ]


def test_multirun_refuses_a_bad_combination_before_anything_runs(job, ran):
    with pytest.raises(ConfigError, match=r"engine\.num_slots must be a whole number"):
        configurations(job, ["a", "engine.num_slots=1,x"], multirun=True)
    assert not ran


def test_help_names_every_key_with_its_default_and_meaning(job, capsys):
    code, page, _ = said(job, capsys, "--help", "all")
    assert code == 0
    for key in job.keys.values():
        assert key.meaning.split()[0] in page
        assert key.path in page
    assert "engine.device=cpu" in page  # as composed, not as declared
    assert "must be given" in page
    assert max(map(len, page.splitlines())) <= 100


def test_help_shows_required_arguments_and_the_keys_of_the_job_first(job, capsys):
    page = said(job, capsys, "--help")[1]
    assert page.startswith("usage: nightscribe probe AUDIO [key=value ...]\n")
    own = [path for path, key in job.keys.items() if "." not in path and not key.is_group]
    lines = [line.split("=")[0].split() for line in page.splitlines()]
    places = [lines.index(words) for words in lines if words and words[0] in own]
    assert len(places) == len(own)
    assert max(places) < page.splitlines().index("engine=NAME of auto, cpu, gpu: where it runs")
    assert "  names=[]" in page


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("transcribe", "transcribe input=INPUT output=OUTPUT model=NAME [key"),
        ("file", "file AUDIO model=NAME [key"),
        ("show", "show RUN [RECORDING] [key"),
        ("plan", "plan INPUT [key"),
    ],
)
def test_the_usage_line_can_be_typed(name, usage):
    page = help_of(import_module(f"nightscribe.jobs.{name}").JOB)
    line = " ".join(page.split())  # it is broken between words where the window is narrow
    assert line.startswith(f"usage: nightscribe {usage}")
    assert "model.checkpoint=null" not in page
    assert "gpus=[h200,h100,l40s]" in page or name != "plan"


def test_a_key_that_a_choice_of_its_group_gives_is_shown_with_that_choice():
    page = " ".join(
        help_of(import_module("nightscribe.jobs.transcribe").JOB, every_key=True).split()
    )
    assert "must be given, or model=NAME" in page
    assert ", or input=NAME" not in page


@pytest.mark.parametrize("name", ["export", "transcribe"])
@pytest.mark.parametrize(("columns", "width"), [(80, 80), (200, 100), (20, 60)])
def test_help_is_as_wide_as_the_terminal_and_no_wider_than_can_be_read(
    monkeypatch, columns, width, name
):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = help_of(import_module(f"nightscribe.jobs.{name}").JOB).splitlines()
    assert width - 12 < max(map(len, lines)) <= width
    assert any("[key=value ...]" in line for line in lines[:2])


def test_the_composed_configuration_can_be_printed(job, ran, capsys):
    code, page, _ = said(job, capsys, "a.wav", "--cfg", "engine.num_slots=3")
    assert (code, ran) == (0, [])
    assert "num_slots: 3" in page


def test_nothing_is_written_to_the_current_folder(job, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    said(job, capsys, "--multirun", "a.wav", "tokens=true,false")
    assert list(tmp_path.iterdir()) == []


def test_defaults_are_those_of_the_groups(job):
    assert defaults(job)["engine.device"] == "cpu"
    assert "audio" not in defaults(job)
