"""The terms of a text, as search compares them: split, in lower case, stemmed, without filler."""

import re
from functools import lru_cache

import Stemmer  # type: ignore[import-not-found] - compiled, without stubs
from bm25s.stopwords import STOPWORDS_EN_PLUS

WORD = re.compile(r"\w+")
# HTTPServer: HTTP, Server; p50: p, 50. Other alphabets have letters without a case.
PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\WA-Z\d_]+|\d+")
STEMMER = Stemmer.Stemmer("english")

# What questions are made of, whatever they are about.
FILLER = """
     actually allow already also although always another anybody anyone anything anyway back become
    began begun brought came case chose chosen come could different do does done else ever every
    everyone everything exactly find gave get give given go going gone got happen help instead
    kind knew know known left let like long look lot made make many may maybe mean meant met might
    much must need never often one part perhaps please possible put quite ran rather really right
    said saw say see seen shall show shown somebody someone something sort sought still sure take
    taken tell thing think though thought together told took try turn two upon us use used want
    way well went whether whole within without work worn would written wrote yes yet
"""
# What everybody says about anything: where documents lack these, they lack nothing.
COMMON = """
     able absolute accept accident achieve acquire add admit advance advice affect afford afraid
    age ago agree ahead aim alone amount announce apart apparent appear apply approach appropriate
    arbitrary area argue arise arrange arrive aspect assist assume attach attempt attention
    automatic automatically available average avoid aware bad balance base basic bear begin behave
    behind believe belong beside best beyond big bit body bother bottom bound brief bring build
    bunch busy buy call calm capable careful careless carry casual catch cause certain chance
    characteristic circumstance claim clean clear clever close collect combine comfortable comment
    common compete complain complete complex complicated computer concept concern conclude
    condition confirm confuse connect consequence consider contain continue control convenient
    convince cool cope corner correct count couple cover crazy create criterion critical curious
    cut daily danger date day deal decrease deep define definite degree delay demand deny depend
    describe design desire despite detail develop differ difficult direct disappear discover
    discuss display distinguish divide double doubt draw drive due duration duty eager earlier
    early easily easy edge effect effective effort elsewhere emerge empty encounter encourage end
    engage enjoy enough ensure enter entire entry equal escape essential establish estimate etc
    event eventually evident evolve exact examine example exceed excellent except exchange exclude
    exist expand expect experience explain expose express extend extent external extra extremely
    face fact fair fall false familiar fast favourite feature feel few fewer figure fill final
    fine finish fit fix follow force forget form fortunately free frequent friend front full fun
    function fundamental future gain gap gather general genuine glad goal gone good gradual grant
    great grow guarantee guess guide habit half hand hang happy hard harm hate head hear heavy
    hide high hint hit hold hope hour huge hurry idea ideal identify ignore illustrate imagine
    immediate immediately imply important impossible impress improve incoming inconvenient
    increase indeed indicate individual influence initial inner inquire inside instance intend
    interesting interfere internal interrupt introduce invent invite involve item join judge jump
    justify keep kind lack largely last late later lay lead learn least leave lend less level lie
    life lift likely line link list listen little live local locate logical lonely loose love low
    lower luck luckily main maintain major manage manner manual matter mean means meet mention
    mere middle mind minimum minor minute miss mistake mistype mix modern moment money month more
    move multiple mutual name narrow natural near nearly necessary neither nice none normal note
    nothing notice nowadays number numerous observe obtain obvious occur odd offer official open
    operate opinion opportunity oppose opposite option order ordinary original otherwise outside
    overall owe page pair partial participate particular partly pass past path pattern pay
    peculiar people perfect perform period permanent person phase physical pick picture piece
    place plan play pleased plug plus point pop possess possible potential practice precise
    precisely prefer prepare presence present pressure pretty prevent previous primary principle
    prior probably problem proceed produce program progress project promise proper proportion
    propose prove provide pull purely purpose pursue push quantity question quickly raise random
    rapid rare reach reaction read ready real realise reason recent recognise recommend reduce
    refer reflect region regular relate relative relevant reliable rely remain remark remember
    remind remote render repeat replace report represent require resist respect respond
    responsible rest result retain return reveal reverse rich right rise risk role rough round
    routine rule safe same satisfy save scene scope second secondary secure seek seem select sense
    separate sequence series serious set severe shape share shift short shut side significant
    similar simple since single situation size skip slight small smart smooth soft software solve
    somehow sometimes somewhat soon source space spare speak special specific specify spend split
    spread state stay step straight strange strict strictly strike strong struggle stuff stupid
    style subject submit substitute succeed success such sudden sufficient suggest suit suite sum
    summary supply suppose surface surprise surround survive suspect sustain switch symbol symptom
    system talk teach team tend term text thank theory therefore thing third thorough throw thus
    time tiny tired title today together tomorrow tonight top topic total touch track tradition
    transform treat trend trick trouble true trust turn twice type typical ultimate unable undergo
    understand unfortunately unique unit unless unlike unusual update upper urgent usual usually
    vague valuable value various vary via victim view visible visit vital voice wait walk warn
    waste watch weak week weird welcome whenever whereas wherever whole wide willing wise wish
    withdraw wonder word world worry worth wrong year young
"""
# Words that mean the same to who asks about software; the first stands for all. Users ask in their
# own words, and no model is at hand that would know this.
SYNONYMS = """
    accuracy accurate
    alert alarm notify notification
    answer response reply respond
    benchmark measure measurement
    better beat outperform
    change modify alter edit adjust
    choose decide decision determine select
    column feature field attribute
    compare comparison versus vs
    config configuration configure setting option
    container docker
    cost price pricing money pay paid bill fee expensive
    crash die death kill
    dataset table
    delete remove erase drop destroy discard rid teardown uninstall
    deploy release ship rollout
    directory folder
    drift shift
    duplicate copy
    encrypt encryption tls ssl https
    error exception
    fail failure break broken fault
    fast faster fastest quick speed slow slower latency
    numeric number numerical
    mail email e-mail
    gb gigabyte
    mb megabyte
    fetch download pull
    handle process treat
    hardware machine computer laptop
    install setup
    kubernetes k8s
    label truth annotation annotate
    log journal
    lose lost loss
    max maximum limit
    1000000 million
    memory ram
    missing empty null blank
    new newest newly latest recent
    old previous former earlier
    password secret credential
    permission privilege authorization policy
    predict prediction score infer inference
    protect secure security guard
    recipe command
    refuse reject deny
    request query
    rollback revert undo
    row record
    schedule cron periodic
    send submit transmit
    server service
    shell ssh terminal
    simulate fake imitate emulate mock standin
    start launch boot begin
    stop halt shutdown sigterm terminate
    store save keep persist
    telemetry usage statistics analytics
    ui gui frontend
    worse degrade deteriorate decay
    wrong invalid malformed incorrect
"""
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
# What is written in two words as well as in one.
JOINED = re.compile(
    r"\b(roll|set|stand|tear|shut|log|sign|back(?=\w*[ -]up))(?:s|ed|ing)?"
    r"[ -](back|up|in|down|out)\b",
    re.IGNORECASE,
)
# Words that only together say what is asked for.
HOW_LONG = re.compile(r"\bhow long\b", re.IGNORECASE)


def stem(word: str) -> str:
    """Return what inflections of a word have in common."""
    return STEMMER.stemWord(word)


IGNORED = {stem(word) for word in FILLER.split()} | set(STOPWORDS_EN_PLUS)
COMMON_STEMS = {stem(word) for word in COMMON.split()}
HEADS = {
    stem(word): stem(line.split()[0])
    for line in SYNONYMS.strip().splitlines()
    for word in line.split()
}


def terms(text: str) -> list[str]:
    """Return the terms of a text in their order, with repetitions.

    An identifier counts as a whole and by its parts, so that `max_rows` and `maxRows` are found by
    "rows".
    """
    joined = JOINED.sub(r"\1\2", HOW_LONG.sub("duration", THOUSANDS.sub("", text)))
    return [term for word in WORD.findall(joined) for term in _terms_of_word(word)]


def is_common(term: str) -> bool:
    """Whether a term says little about what a text is about."""
    return term in COMMON_STEMS


# most words of a text have come before
@lru_cache(maxsize=200_000)
def _terms_of_word(word: str) -> tuple[str, ...]:
    words = dict.fromkeys(part.lower() for part in (word, *PART.findall(word)))
    stems = [stem(one) for one in words if one not in IGNORED]
    return tuple(HEADS.get(one, one) for one in stems if one not in IGNORED)
