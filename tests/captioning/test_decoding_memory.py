"""Beams and samples that do not fit in memory are refused before they are decoded, with a number that fits."""

from __future__ import annotations

import re

import pytest

from xmodal_cli.captioning import decoding_memory
from xmodal_cli.captioning.decoding_memory import check_decoding_memory, image_bytes, images_at_once
from xmodal_cli.errors import ConfigError
from xmodal_cli.types import Decoding

SMALL = {"vocab_size": 2500, "embed_dim": 384, "args": {"num_layers": 2}}
LARGE = {"vocab_size": 50257, "embed_dim": 768, "args": {"num_layers": 12}}


@pytest.fixture(autouse=True)
def eight_gigabytes(monkeypatch):
    monkeypatch.setattr(decoding_memory, "available_bytes", lambda: 8 * 10**9)


@pytest.mark.parametrize("architectures", [[SMALL], [LARGE], [SMALL, LARGE]])
@pytest.mark.parametrize(
    "settings",
    [Decoding(beam=10**6), Decoding(beam=10**9, num=10**9), Decoding(sample=True, num=10**6), Decoding(beam=10**12)],
)
def test_what_does_not_fit_is_refused_and_the_hint_fits(architectures, settings):
    with pytest.raises(ConfigError, match=r"needs about [\d,.]+ GB per image, and 8\.0 GB are available") as caught:
        check_decoding_memory(settings, architectures)
    values = {name: int(value) for name, value in re.findall(r"--(beam|num) (\d+)", caught.value.hint)}
    smaller = Decoding(**{"beam": settings.beam, "num": settings.num, "sample": settings.sample} | values)
    assert smaller.num <= smaller.beam or smaller.sample
    check_decoding_memory(smaller, architectures)


@pytest.mark.parametrize("beam", [1, 5, 100, 1000])
def test_usual_beams_are_accepted(beam):
    check_decoding_memory(Decoding(beam=beam), [SMALL])


def test_the_estimate_grows_with_rows_and_members():
    one, two = (image_bytes(Decoding(beam=n), [SMALL]) for n in (1, 2))
    assert two == 2 * one > 4 * SMALL["vocab_size"]
    assert image_bytes(Decoding(), [SMALL, LARGE]) == image_bytes(Decoding(), [SMALL]) + image_bytes(
        Decoding(), [LARGE]
    )


def test_fewer_images_are_decoded_at_once_if_the_beam_is_large():
    assert images_at_once(Decoding(beam=5), [SMALL], 64, "cpu") == 64
    many = images_at_once(Decoding(beam=2000), [SMALL], 64, "cpu")
    assert 1 <= many < 64
    assert many * image_bytes(Decoding(beam=2000), [SMALL]) <= 4 * 10**9
    assert images_at_once(Decoding(beam=10**7), [SMALL], 64, "cpu") == 1
    assert images_at_once(Decoding(beam=10**7), [SMALL], 64, "cuda") == 64
