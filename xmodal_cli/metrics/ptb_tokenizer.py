"""The Penn Treebank tokenizer of the COCO caption evaluation: lower case, without punctuation.

The rules were derived from the output of the Stanford PTBTokenizer 3.4.1, which pycocoevalcap runs, on a million short
lines; they contain none of its code. At each position the rule with the longest match wins, lookahead included, and the
first of equally long ones. docs/caption-metrics.md lists the known differences.
"""

from __future__ import annotations

import re
from functools import lru_cache

# removed by the COCO evaluation; brackets stay, as -lrb- and so on, because it compares with the upper-case names
PUNCTUATION = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))

APOS = r"(?:['\u2019\u0092]|&apos;)"
TICK = rf"(?:{APOS}|[`\u2018\u201b\u0091])"
NUMERALS = r"\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2089\u2150-\u218f\u2460-\u249b\u24ea-\u24ff\u2776-\u2793"
LETTER = rf"(?:[^\W\d_{NUMERALS}\U00010000-\U0010ffff]|[\u00ad\u0300-\u036f]|&[aeiouAEIOU](?:acute|grave|uml);)"
ALNUM = rf"(?:{LETTER}|[0-9])"
WORD = rf"{LETTER}{ALNUM}*(?:[.!?]{LETTER}{ALNUM}*)*"
PART = rf"(?:[dDoOlL]{TICK}{ALNUM}{ALNUM}+|{ALNUM}+)"  # d'you, o'clock
SLASHED = r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
INITIALS = r"(?:[A-Za-z](?:\.[A-Za-z])+|(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.K|U\.S\.S\.R))"
AREA = r"(?:\([0-9]{2,3}\)[ ]?|(?:\+\+?)?(?:[0-9]{2,4}[- ])?[0-9]{2,4}[- ])"
DOTTED_PHONE = r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"
PATH = r"(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?"
HOST = r"[^\s\"`'<>|.!?(){}$,-_]{1,99}\."  # from , to _ there are digits and capitals
FILE = (
    "bat|bmp|c|cgi|class|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpe?g|mov|mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt"
    "|wav|x|xml|zip"
)

# abbreviations keep their period; those of the first two lists may end a sentence
ENDING = (
    "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu(?:rs)?|fri|al|ala|ariz|calif|colo|conn|ct|dak|fla"
    "|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt|wisc?|wyo|inc|cos?|corp|p?ptys?|p?ptes?|ltd"
    r"|plc|bancorp|bhd|assn|assoc|univ|intl|sys|treas|[js]r|bros|(?:ed|ph)\.d|blvd|rd|esq|bldg|est|etc|ext|rt|seq|sq|tel"
)
CAPITALS_ENDING = "A[zZ]|A(?:rk|RK)|D(?:el|EL)|I(?:ll|LL)|L[aA]|Mass|Miss|O(?:re|RE)|P[aA]|T(?:ex|EX)|Wash"
TITLES = (
    "adj|adm|adv|alex|asst|attys?|ave|brig|capt|cf|cie|cmdr|col|comdr|cpl|dept|det|drs?|elec|ens|ft|gen|govs?|hon|insp"
    "|invt|jos|lieut|lt|maj|messrs|mfg|mlle|mme|mr|mrs|ms|msgr|mt|mtg|natl|pfc|ph|pres|profs?|pvt|reps?|rev|sens?|sfc"
    "|sgt|spc|ste?|supts?|vs|wm"
)
ENDS = rf"(?:(?i:{ENDING})|{CAPITALS_ENDING})\."
PREFIXED = (  # words that contain an apostrophe
    rf"[lLdDjJ]{APOS}|[oO]l{APOS}|(?i:somethin|dunkin){APOS}|{APOS}(?i:em|till?|cause)|{APOS}[nN]{APOS}"
    rf"|(?i:c{APOS}mon|s{APOS}mores|li{APOS}l|nat{APOS}l|nor{APOS}easter|e{APOS}er|ev{APOS}ry|cap{APOS}n|c{APOS}est)"
    rf"|(?i:cont{APOS}d)\.|{APOS}[2-9]0s|[A-HJ-XZn]{TICK}{LETTER}{{2,}}"
    rf"|{LETTER}+[aeiouyAEIOUY]{TICK}[aeiouA-Z]{LETTER}*"
)

# the first group of a rule is its token, the rest of the match is lookahead
RULES = (
    r"(<[!?A-Za-z/][^<>\r\n]*>)",
    r"((?i:can))(?i:not)",
    r"((?i:gon|wan))(?i:na)",
    r"((?i:got))(?i:ta)",
    r"((?i:lem|gim))(?i:me)",
    r"('[tT])(?i:is|was)",
    rf"([A-Za-z]*[A-MO-Za-mo-z])(?i:n){TICK}[tT]",
    rf"((?i:n){TICK}[tT])",
    r"([\u2019\u0092](?i:[msd]|re|ve|ll))",
    rf"({APOS}(?i:[msd]|re|ve|ll))(?:[^A-Za-z]|$)",
    rf"({WORD})(?:{APOS}(?i:[msd]|re|ve|ll))?",
    rf"({PREFIXED})",
    rf"([yY]{APOS})[A-Za-z]",
    rf"({APOS}[nN])(?:[^A-Za-z]|$)",
    rf"({APOS}[0-9]{{2}})(?:\s|$)",
    r"((?i:-[LR][RCS]B-)|C\.D\.s|pro-|anti-|S(?:&|&amp;)P-500|S(?:&|&amp;)Ls)",
    rf"({PART}(?:[-_\u058a\u2010\u2011]{PART})*)",
    rf"([A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:[A-Za-z0-9\u00ad]+|{INITIALS}\.))+)",
    rf"({SLASHED}(?:/{SLASHED}){{1,2}})",
    r"([A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+)",
    rf"({WORD}\.)[,;:\u3001]",
    rf"({ENDS})(?:..)?",
    rf"((?i:{TITLES})\.)",
    rf"({INITIALS}\.|[A-Za-z]\.)",
    r"((?i:nos?|prop|ph)\.)\s?[0-9]",
    r"((?i:https?)://[^\s\"<>|()]+[^\s\"<>|.!?(){},-])",
    rf"(www\.(?:{HOST})+[a-zA-Z]{{2,4}}{PATH}|(?:{HOST})+(?:com|net|org|edu){PATH})",
    r"(<?[a-zA-Z0-9][^\s\"<>|(){}]{0,99}@(?:[^\s\"<>|().{}]+\.)*[^\s\"<>|().{}]+>?)",
    r"(@[A-Za-z_][A-Za-z_0-9]*|\#(?:[A-Za-z]|[^\W\d_])+)",
    rf"([A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*\.(?i:{FILE}))(?:[\s.?!,]|$)",
    r"([-+]?(?:[0-9]*(?:[.:,][0-9]+)+|[0-9]+))",
    r"((?:[0-9]{1,4}[- ])?[0-9]{1,4}/[0-9]{1,4})",
    rf"({AREA}[0-9]{{3,4}}[- ]?[0-9]{{3,5}}|{DOTTED_PHONE})",
    r"([A-Z]*\$)",
    r"(&(?i:amp|lt|gt|quot|apos|nbsp|[mn]dash|\#[0-9]+);)",
    r"([<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]])(?:[^A-Za-z0-9]|$)",
    r"([-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\))",
    r"(\*+|\#+|@+|_+|\.{3,}|[?!]+|<<|>>|-{5,}|-{2,4}|'')",
    r"([`\u2018\u2019\u201b-\u201d\u0091-\u0094\u2039\u203a\u00ab\u00bb]{1,2})",
    r"([!-~\u00a1-\u00bf\u00d7\u00f7\u2010-\u2046\u2070-\u208e\u20ac\u2100-\u214f\u2155-\u215e\u2190-\u2bff\u3001\u3002"
    r"\u30fb\uff01-\uff65\u0091-\u0097])",
)
REPLACEMENTS = {
    "(": "-lrb-",
    ")": "-rrb-",
    "[": "-lsb-",
    "]": "-rsb-",
    "{": "-lcb-",
    "}": "-rcb-",
    "\u20ac": "$",
    "\u00a4": "$",
    "\u00a3": "#",
    "\u00a2": "cents",
    "\u00bc": "1/4",
    "\u00bd": "1/2",
    "\u00be": "3/4",
    "\u2153": "1/3",
    "\u2154": "2/3",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
}
DROPPED = re.compile(r'\.+|-{2,4}|["\u2010-\u2015\u2026\u0096\u0097]|&(?:quot|apos|nbsp|[mn]dash);')
COMPILED = tuple(re.compile(rule, re.DOTALL) for rule in RULES)
PLAIN = re.compile(r"(?!(?i:cannot|gonna|wanna|gotta|lemme|gimme)\b)[A-Za-z]+(?=[ \n]|$)")
SKIPPED = re.compile(r"[\s\u200b]+|[.,](?=\s|$)")
TAG = re.compile("<[!?a-z/]")
SUFFIX = re.compile(f"(n?){APOS}(t|[msd]|re|ve|ll)")
NEGATION = re.compile(f"n{TICK}t")
QUOTES = str.maketrans(
    {"\u2018": "`", "\u201b": "`", "\u0091": "`", "\u2039": "`", "\u201c": "``", "\u0093": "``", "\u00ab": "``"}
    | {"\u2019": "'", "\u0092": "'", "\u203a": "'", "\u201d": "''", "\u0094": "''", "\u00bb": "''"}
)


@lru_cache(maxsize=1 << 16)
def ptb_words(sentence: str) -> tuple[str, ...]:
    """The words of a sentence. Line breaks count as spaces, unknown characters are skipped."""
    words: list[str] = []
    position, end = 0, len(sentence)
    while position < end:
        plain = PLAIN.match(sentence, position)
        if plain:
            token = plain.group()
            position = plain.end()
        elif skipped := SKIPPED.match(sentence, position):
            position = skipped.end()
            continue
        else:
            token = _match_longest(sentence, position)
            position += len(token) or 1
        words += _normalize(token)
    return tuple(words)


def _match_longest(sentence: str, position: int) -> str:
    """The token at ``position``; empty if no rule matches."""
    longest, token = 0, ""
    for rule in COMPILED:
        match = rule.match(sentence, position)
        if match and match.end() - position > longest:
            longest, token = match.end() - position, match.group(1)
    return token


@lru_cache(maxsize=1 << 16)
def _normalize(token: str) -> tuple[str, ...]:
    """The words that the evaluation makes of a token: none for punctuation, several if it contains spaces."""
    lower = token.lower().replace("\u00ad", "")
    if lower in REPLACEMENTS:
        return (REPLACEMENTS[lower],)
    if DROPPED.fullmatch(lower):
        return ()
    if not TAG.match(lower):
        lower = lower.replace("(", "-lrb-").replace(")", "-rrb-")
    if SUFFIX.fullmatch(lower):
        lower = SUFFIX.sub(r"\1'\2", lower)
    elif not lower.isascii() and (len(lower) <= 2 or NEGATION.fullmatch(lower)):
        lower = lower.translate(QUOTES)
    return tuple(word for word in lower.split() if word not in PUNCTUATION)
