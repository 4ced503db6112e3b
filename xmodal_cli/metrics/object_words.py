"""Objects that English captions name: a table of nouns with their synonyms, as in CHAIR (arXiv 1809.02156).

CHAIR has the 80 object classes of MS COCO. This table has the objects, persons and scenes of Flickr8k: nouns among the
content words that occur in at least 20 training captions, and the COCO classes. Words with another frequent meaning
(orange, watch, top, fly) are left out. A caption is searched for single words; plurals are mapped to singulars.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from xmodal_cli.metrics.english_words import singular

# One class per line, named by its first word. A word before "|" mentions the class. In references, the words after "|"
# mention it too: kinds of a general class (a dog is an animal), and persons and activities that imply an object.
TABLE = """
person human man guy gentleman male boy lad woman lady female girl child kid toddler baby infant adult teenager teen\
 youth couple group crowd family friend someone somebody everyone player team teammate rider biker cyclist bicyclist\
 motorcyclist surfer skier snowboarder skateboarder skater climber hiker swimmer runner jogger racer driver wrestler\
 performer dancer musician singer guitarist artist worker fisherman photographer pedestrian onlooker spectator\
 audience opponent goalie referee cowboy clown police officer policeman soldier bride groom mother father mom dad\
 parent son daughter brother sister wife husband owner kayaker boarder wakeboarder athlete acrobat gymnast\
 cheerleader student teacher chef waiter waitress tourist shopper passenger participant competitor rollerblader
dog puppy pup doggy canine hound greyhound poodle terrier retriever collie dachshund labrador dalmatian rottweiler\
 bulldog beagle husky doberman pug corgi chihuahua spaniel schnauzer
cat kitten kitty
horse pony stallion
cow cattle calf bull bison buffalo
sheep lamb goat
bird | pigeon seagull gull duck goose parrot eagle owl swan flamingo penguin chicken
duck goose
bear
elephant
zebra
giraffe
monkey
fish
deer
rabbit bunny
animal creature | dog puppy greyhound poodle terrier retriever cat kitten horse pony cow bull sheep goat bird pigeon\
 seagull duck deer fox monkey elephant zebra giraffe bear rabbit
ball tennisball baseball basketball football softball volleyball soccerball | tennis soccer
frisbee disc disk
stick twig branch
toy | ball frisbee doll teddy
rope
leash
bike bicycle cycle | biker cyclist bicyclist biking bicycling bmx motorbike motorcycle
motorcycle motorbike dirtbike motocross | motorcyclist bike dirt
skateboard | skateboarder skateboarding skater skate skating
snowboard | snowboarder snowboarding
ski | skier skiing
surfboard | surfer surfing surf board
scooter
car automobile suv jeep racecar | vehicle
truck pickup
bus
van
train
airplane plane aircraft jet
vehicle | car truck jeep van bus motorcycle atv tractor
boat ship sailboat rowboat speedboat canoe kayak raft | kayaking kayaker rafting canoeing rowing
cart wagon
stroller carriage
wheelchair
helicopter
sled | sledding
parachute
kite
balloon
bubble
umbrella parasol
bag backpack purse handbag luggage suitcase | backpacker
camera | photographer photo photograph
phone cellphone telephone
computer laptop
book magazine newspaper
guitar | guitarist
instrument | guitar violin drum trumpet saxophone piano accordion flute tuba
drum | drummer
microphone mic
bat racket racquet
bottle
cup mug
bowl
box
basket
bucket
cigarette | smoking smoke
knife
gun rifle
sword
flag
sign
hoop
net
shirt t-shirt tshirt blouse jersey sweater sweatshirt hoodie
jacket coat parka
vest
dress gown
skirt
pants jeans trousers
shorts trunks
suit tuxedo
uniform
costume outfit
bikini swimsuit
wetsuit
hat cap beanie
helmet
sunglasses shades
glasses goggles | sunglasses
glove mitten
mask
scarf
bandanna bandana headband
shoe boot sneaker sandal
sock
collar
harness
necktie
apron
muzzle | muzzled
mohawk
beard | bearded
bench
chair armchair seat
couch sofa
bed | mattress
table desk
window
door doorway
stair staircase
ladder
rail railing handrail
fence gate
wall
pole
bridge
dock pier
tent
trampoline
slide
swing
playground | slide swing
ramp halfpipe
hurdle obstacle
fountain sprinkler
hose
pool
bathtub tub
toilet
sink
oven stove
refrigerator fridge
television tv
clock
vase
lamp
ocean sea | wave surf surfer surfing surfboard
lake pond
river stream creek rapids
puddle
waterfall
wave
water | ocean sea lake pond river stream creek pool puddle wave waterfall fountain surf rapids swimming
beach shore seashore shoreline coast
sand
snow | snowy snowball snowboard snowboarder ski skier
ice
mud | muddy
dirt
grass lawn | grassy
field meadow pasture
tree
bush shrub
forest wood
leaf
flower
log trunk
mountain peak | mountainside mountainous
hill hillside slope
cliff ledge
rock boulder stone | rocky
desert
cave
park
yard backyard garden
street road
sidewalk pavement
trail path
track racetrack
court
stadium arena
city town
building house skyscraper
store shop market
restaurant cafe bar
kitchen
stage
fire campfire
statue sculpture
food meal | sandwich pizza hotdog cake fruit apple banana carrot broccoli donut hamburger
cake
pizza
sandwich hamburger burger
apple
banana
beer wine
tongue
"""
# nouns of several persons or things; followed by "of" they name nothing themselves: a group of dogs
COLLECTIVE = frozenset(("audience", "couple", "crowd", "everyone", "family", "group", "team"))
_COMPOUNDS = frozenset((("hot", "dog"), ("teddy", "bear")))  # the second word is another object


def mentioned_objects(words: Sequence[str]) -> list[tuple[int, str]]:
    """The position and the class of each object that the lower-cased words of a caption name."""
    found, classes = [], _classes_of_words()
    for position, word in enumerate(words):
        of_word = classes.get(word) or classes.get(singular(word))
        if of_word and not _is_part_of_phrase(words, position):
            found.append((position, of_word))
    return found


def named_in(references: Sequence[Sequence[str]]) -> set[str]:
    """The classes that at least one of the references names or implies."""
    implied = _implied_classes()
    words = {form for sentence in references for word in sentence for form in (word, singular(word))}
    return {name for word in words for name in implied.get(word, ())}


def _is_part_of_phrase(words: Sequence[str], position: int) -> bool:
    is_quantity = words[position] in COLLECTIVE and tuple(words[position + 1 : position + 2]) == ("of",)
    return is_quantity or (position > 0 and (words[position - 1], singular(words[position])) in _COMPOUNDS)


@cache
def _lines() -> list[tuple[list[str], list[str]]]:
    """The words of each class, and the words of references that imply it."""
    parts = [line.partition("|") for line in TABLE.strip().splitlines()]
    return [(synonyms.split(), implied.split()) for synonyms, _, implied in parts]


@cache
def _classes_of_words() -> dict[str, str]:
    return {word: synonyms[0] for synonyms, _ in reversed(_lines()) for word in synonyms}


@cache
def _implied_classes() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for synonyms, implied in _lines():
        for word in (*synonyms, *implied):
            found.setdefault(word, set()).add(synonyms[0])
    return found
