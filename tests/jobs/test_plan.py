"""`nightscribe plan` over a folder and over a bucket."""

import json
import re
import shutil

import pytest

from nightscribe.jobs import cli, plan
from nightscribe.storage.locations import open_store
from nightscribe.storage.s3 import S3Config
from nightscribe.storage.tables import READERS
from nightscribe.survey.archive import read_header
from tests.survey.sounds import make_sound


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds")
    (root / "talks").mkdir()
    (root / "calls").mkdir()
    make_sound(root / "talks/long.mp3", 90.0, 44_100)
    make_sound(root / "calls/stereo.wav", 30.0, 8_000, channels=2)
    shutil.copy(root / "calls/stereo.wav", root / "calls/again.wav")
    (root / "talks/broken.mp3").write_bytes(b"no sound at all" * 100)
    (root / "notes.txt").write_text("no recording")
    return root


@pytest.fixture
def say(monkeypatch, capsys):
    def run(*words, columns="200"):
        monkeypatch.setattr("sys.argv", ["nightscribe", "plan", *words])
        monkeypatch.setenv("COLUMNS", columns)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


def check(document):
    assert document["num_recordings"] == 3
    assert document["num_duplicates"] == 1
    assert document["num_shards"] == 2 + 1
    assert document["duration_s"] == pytest.approx(120.0, abs=0.5)
    assert set(document["seconds_by"]["codec"]) == {"mp3", "pcm_s16le"}
    assert {uri.rpartition("/")[2] for uri in document["unreadable"]} == {"broken.mp3"}
    (cost,) = document["costs"]
    assert cost["price"] == pytest.approx(cost["gpu_h"] * 3.5)
    assert cost["wall_h"] == pytest.approx(cost["gpu_h"] / 2)


def test_files_that_are_not_planned_are_counted_by_suffix(say, sounds):
    assert json.loads(say(str(sounds), *WORDS)[1])["skipped"] == {".txt": 1}
    assert re.search(r"skipped +1 \(1 \.txt\)", say(str(sounds))[1])


def test_unreadable_files_beyond_the_rows_of_a_table_are_counted(say, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.mp3").write_bytes(b"no sound at all" * (100 + number))
    assert re.search(r"\b2 more\b", say(str(tmp_path), "num_rows=1", "gpus=[]")[1])


def test_an_archive_that_nobody_can_read_is_surveyed_and_costs_nothing(say, tmp_path):
    (tmp_path / "page.mp3").write_bytes(b"no sound at all" * 100)
    code, page, err = say(str(tmp_path), "num_cpus=4")
    assert (code, err) == (0, "")
    assert "there is no audio to transcribe" in page
    document = json.loads(say(str(tmp_path), "num_cpus=4", "format=json")[1])
    assert (document["transcribed_s"], document["costs"]) == (0, [])


def test_the_header_of_a_file_is_read_once_for_all_its_spans(say, sounds, tmp_path, monkeypatch):
    opened = []

    def counted(*asked):
        opened.append(asked)
        return read_header(*asked)

    monkeypatch.setattr(plan, "read_header", counted)
    file, num_spans = sounds / "talks/long.mp3", 200
    spans = [f"{file},{number / 10},{number / 10 + 5}" for number in range(num_spans)]
    (tmp_path / "spans.csv").write_text("\n".join(["uri,start,end", *spans]))
    document = json.loads(say(str(tmp_path / "spans.csv"), "format=json", "gpus=[]")[1])
    assert document["num_recordings"] == num_spans
    assert document["duration_s"] == pytest.approx(5 * num_spans)
    assert len(opened) <= READERS  # those that begin at the same moment


def test_a_file_that_cannot_be_fetched_is_explained_in_words(say, sounds, tmp_path):
    (tmp_path / "in").mkdir()
    shutil.copy(sounds / "calls/stereo.wav", tmp_path / "in")
    (tmp_path / "in/away.wav").symlink_to(sounds / "talks/long.mp3")
    (reason,) = json.loads(say(str(tmp_path / "in"), "format=json")[1])["unreadable"].values()
    assert reason.startswith("a link that leads out of the folder is not followed")


def test_seconds_have_no_binary_fractions(say, sounds):
    numbers = re.findall(r"\d+\.\d+", say(str(sounds), "format=json", "gpus=[]")[1])
    assert numbers
    assert max(len(number.partition(".")[2]) for number in numbers) <= 3
    (cost,) = json.loads(say(str(sounds), *WORDS)[1])["costs"]
    amounts = cost["speed"]["times_real_time"], cost["gpu_h"], cost["wall_h"], cost["price"]
    assert all(amount == float(f"{amount:.9g}") for amount in amounts)


WORDS = ("format=json", "shard.max_s=60", "gpus=[h200]", "prices.h200=3.5", "num_gpus=2")


def test_a_folder_is_surveyed(say, sounds):
    code, out, _ = say(str(sounds), *WORDS)
    assert code == 0
    check(json.loads(out))


def test_a_bucket_is_surveyed_by_ranges(say, sounds, s3_bucket):
    store = open_store(s3_bucket, S3Config())
    for path in sounds.rglob("*.*"):
        store.upload(path, path.relative_to(sounds).as_posix())
    code, out, _ = say(s3_bucket + "/", *WORDS)
    assert code == 0
    check(json.loads(out))


def test_split_channels_take_twice_the_hours(say, sounds):
    code, out, _ = say(str(sounds / "calls/stereo.wav"), "source=split", "format=json")
    assert code == 0
    document = json.loads(out)
    assert document["transcribed_s"] == pytest.approx(2 * document["duration_s"])
    assert document["num_shards"] == 2


@pytest.mark.parametrize(("model", "silence_s"), [("stt-1b-en_fr", 1.04), ("stt-2.6b-en", 4.08)])
def test_the_silence_that_is_added_around_each_shard_is_paid_for(say, sounds, model, silence_s):
    code, out, _ = say(str(sounds), f"model={model}", *WORDS)
    assert code == 0
    document = json.loads(out)
    (cost,) = document["costs"]
    paid_s = cost["gpu_h"] * 3600 * cost["speed"]["times_real_time"]
    silence_in_all_s = paid_s - document["transcribed_s"]
    assert silence_in_all_s == pytest.approx(document["num_shards"] * silence_s)


def test_the_cost_table_names_its_basis(say, sounds):
    code, out, _ = say(str(sounds), "gpus=[l40s]")
    assert code == 0
    assert re.search(r"estimate, \d+ slots", out)
    assert "prices.l40s=?" in out
    assert "1 (transcribed once)" in out
    assert re.search(r"codec +│ mp3 +│ 0:01:30", out)


def test_the_cpus_that_keep_the_gpus_busy_are_named_and_fewer_are_the_limit(say, sounds):
    words = str(sounds), "model=stt-1b-en_fr", "gpus=[h200]", "num_gpus=8"
    plain = " ".join(say(*words)[1].split())
    needed = int(re.search(r"8 x h200 need (\d+) CPU cores", plain)[1])
    assert needed > 2 * 8
    assert "are the limit" not in plain
    few = " ".join(say(*words, "num_cpus=17")[1].split())
    assert "with num_cpus=17 the CPUs are the limit, not the GPUs" in few
    costs = [
        json.loads(say(*words, "format=json", f"num_cpus={num_cpus}")[1])["costs"][0]
        for num_cpus in (needed, 17)
    ]
    assert costs[0]["wall_h"] < costs[1]["wall_h"]


def test_long_names_and_small_amounts_can_be_read_in_a_narrow_window(say, tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    make_sound(folder / "a.wav", 1.0, 8_000)
    (folder / "broken.mp3").write_bytes(b"no sound at all" * 100)
    code, out, _ = say(str(tmp_path), "gpus=[h200]", "prices.h200=3", columns="80")
    assert code == 0
    assert re.sub(r"[^x]", "", out).count("x") >= 2 * 120
    assert "\u2026" not in out
    assert re.search(r"size +\d+\.\d kB", out)
    assert not re.search(r"\de-\d", out)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["gpus=[h200,h999]"], "h999"),
        (["gpus=[h100]", "prices.h20=2"], "prices.h20"),
        (["num_gpus=0"], "num_gpus"),
    ],
)
def test_an_unknown_gpu_is_refused_before_anything_is_listed(say, words, named):
    code, out, err = say("no/such/folder", *words)
    assert (code, out) == (2, "")
    assert named in err
    assert "no/such/folder" not in err


def test_an_archive_is_surveyed_for_a_model_of_unknown_speed(say, sounds):
    code, out, _ = say(str(sounds), "model=tiny", "gpus=[h200]")
    assert code == 0
    assert "the speed of tiny on h200 is not known" in out
    assert "GPU-hours" not in out
