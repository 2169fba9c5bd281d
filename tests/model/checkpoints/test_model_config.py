"""Every model of `conf/model` is a whole and sane configuration."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nightscribe.model.checkpoints.model_config import Domain, ModelConfig

MODELS = Path(__file__).parents[3] / "conf" / "model"


def model_config(name):
    values = OmegaConf.load(MODELS / f"{name}.yaml")
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ModelConfig), values))


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_model_is_named_like_its_file(path):
    values = OmegaConf.load(path)
    values["checkpoint"] = "somewhere" if path.stem == "custom" else values["checkpoint"]
    filled = OmegaConf.merge(OmegaConf.structured(ModelConfig), values)
    assert OmegaConf.to_object(filled).name == path.stem


@pytest.mark.parametrize(
    ("name", "delay_steps"), [("stt-1b-en_fr", 6), ("stt-2.6b-en", 32), ("icelandic", 62)]
)
def test_delays_are_those_of_the_published_servers(name, delay_steps):
    assert model_config(name).delay_steps == delay_steps


def test_a_domain_is_four_tokens_and_twelve_pads():
    domain = model_config("icelandic").domains["asr_is_en"]
    assert isinstance(domain, Domain)
    assert domain.first_tokens(padding_id=3) == (9318, 8032, 8015, 9193, *[3] * 12)


def test_a_model_may_have_no_delay():
    assert ModelConfig(checkpoint="somewhere", delay_steps=0, delay_s=0.0).delay_steps == 0


@pytest.mark.parametrize(
    "wrong",
    [{"start_token": "eos"}, {"domain": "law"}, {"num_codebooks": 0}, {"delay_s": -1.0}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_value_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ModelConfig(checkpoint="somewhere", **wrong)
