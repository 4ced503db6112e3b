"""English words that are not content words: function words, and words that describe nothing visible."""

from __future__ import annotations

_COMMON_WORDS = """
a about across after against all along also an and another are around as at away back be been before behind being
below beside between both but by can close down during each every few for from front get gets getting has have having
he her hers him his in inside into is it its itself just large little look looking looks lot made make making many
more most near next no not of off on one onto or other others out outside over past several she small so some that the
their them there they this through to together toward towards two three four under up very was way were what where
which while who whose with without you
"""
COMMON_WORDS = frozenset(_COMMON_WORDS.split())

# function words that are frequent in captions and not in COMMON_WORDS, whose change would change trained captioners
_FUNCTION_WORDS = """
above ahead almost alone alongside already always am among amongst any anything atop backwards being below beneath both
could did different do does doing done eight either else etc even ever everyone everything extremely five going half
happily herself himself how however if instead like may me might mostly must my myself neither never nine no nobody none
nor nothing nowhere number only or others our ours own per perhaps possibly quite rather really s
same seem seems seven several shall should similar since six some somebody someone something sometimes somewhere still
such ten than themselves then these things this those though thus together too underneath unless until upon us using
various via we well what when whether whilst whole whom whose why will within would yes yet you your
"""
STOP_WORDS = COMMON_WORDS | frozenset(_FUNCTION_WORDS.split())
