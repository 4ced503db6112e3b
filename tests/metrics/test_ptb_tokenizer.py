"""The Penn Treebank tokenizer: sentences with known tokens, and the Stanford tokenizer if Java is installed."""

from __future__ import annotations

import random
import shutil

import pytest

from xmodal_cli.metrics.ptb_tokenizer import PUNCTUATION, ptb_words

KNOWN = {
    "A man's dog isn't here.": "a man 's dog is n't here",
    "It's the boys' ball, and they've lost it!": "it 's the boys ball and they 've lost it",
    "She can't, won't and cannot stop; gimme that": "she ca n't wo n't and can not stop gim me that",
    "I wanna, I'm gonna, 'tis so, 'twas": "i wan na i 'm gon na 't is so 't was",
    "Two well-dressed men -- one in a T-shirt - wave": "two well-dressed men one in a t-shirt wave",
    "A dog (brown) [wet] {old}": "a dog -lrb- brown -rrb- -lsb- wet -rsb- -lcb- old -rcb-",
    "He yells \"stop\" and `no' and ``never''": "he yells stop and no and never",
    "Mr. Ito of St. Ives, U.S., at 5 p.m. sharp": "mr. ito of st. ives u.s. at 5 p.m. sharp",
    "They met. The end of No. 5 Elm Rd. today": "they met the end of no. 5 elm rd. today",
    "3.5 of 1,000 at 10:30am, 1/2 price, 50% off $5": "3.5 of 1,000 at 10:30 am 1/2 price 50 % off $ 5",
    "1990s '90s 2nd 5'11 #1 #win @home 4x4": "1990s '90s 2nd 5 '11 # 1 #win @home 4x4",
    "AT&T & a&b and/or he/she cat+dog": "at&t & a & b and/or he/she cat + dog",
    "wait... what?! no!! ok": "wait what ?! no !! ok",
    "don\u2019t \u201csmart\u201d \u2018it\u2019s\u2019 \u2013 caf\u00e9 \u00bd": "do n't smart it 's caf\u00e9 1/2",
    "the dog.The cat,the end": "the dog.the cat the end",
    "one\ntwo\tthree\u00a0four \U0001f600 five": "one two three four five",
    "o'clock rock'n'roll y'all ma'am o'er d'you": "o'clock rock 'n' roll y' all ma'am o'er d'you",
    "see www.a.com or me@b.org :) <b> a < b": "see www.a.com or me@b.org :-rrb- <b> a < b",
    "Smith Co. and Sons Inc. etc., foo_bar, it is approx., so": "smith co. and sons inc. etc. foo_bar it is approx. so",
    "": "",
    " . , ... -- ": "",
}


@pytest.mark.parametrize("sentence", KNOWN)
def test_known_sentences(sentence):
    assert " ".join(ptb_words(sentence)) == KNOWN[sentence]


@pytest.mark.parametrize("sentence", ["(" * 3000, "a." * 5000, "a-" * 5000, "1 " * 5000, "x'" * 5000, "http://" * 2000])
def test_long_sentences_need_no_quadratic_time(sentence):
    assert len(ptb_words(sentence)) <= len(sentence)


def jar_words(sentences):
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokens = PTBTokenizer().tokenize({n: [{"caption": s}] for n, s in enumerate(sentences)})
    return [tuple(tokens[n][0].split()) for n in range(len(sentences))]


needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")


@needs_java
@pytest.mark.slow
def test_known_sentences_are_tokenized_the_same_by_stanford():
    sentences = [s for s in KNOWN if s.strip() and "\u2028" not in s]
    assert jar_words(sentences) == [ptb_words(s) for s in sentences]


@needs_java
@pytest.mark.slow
@pytest.mark.realdata
def test_real_captions_are_tokenized_as_by_stanford(real_data):
    lines = (real_data / "f8k/Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    captions = [line.partition("\t")[2] for line in lines]
    odd = [c for c in captions if not c.replace(" ", "").replace(".", "").replace(",", "").isalpha()]
    sample = random.Random(0).sample(captions, 3000) + odd
    assert len(odd) > 1000
    assert jar_words(sample) == [ptb_words(c) for c in sample]


def test_the_punctuation_is_that_of_the_evaluation():
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    assert {token for token in PUNCTUATIONS if token == token.lower()} == PUNCTUATION
