"""Two hundred made-up users, the same ones each time, with bios that are worth searching by meaning."""

from __future__ import annotations

from itertools import product
from random import Random

COUNT = 200

GIVEN = (  # noqa: SIM905 (a list of them would take a page)
    "Ada Amara Anders Bea Bilal Carmen Chidi Dalia Dmitri Elif Emeka Farah Felix Greta Hana Hugo Imani Ines Jonas "
    "Kaito Lena Luca Mei Milan Nadia Noor Olga Omar Paula Priya Quentin Rosa Sami Sofia Tariq Tove Uma Viktor Wanda "
    "Yusuf"
).split()
FAMILY = (  # noqa: SIM905 (likewise)
    "Abara Berg Castillo Demir Eriksen Fontaine Ghosh Haddad Ivanova Jansen Kowalski Lindqvist Moreau Nakamura Okafor "
    "Petrov Quispe Rossi Silva Tanaka Ueda Varga Weiss Xu Yilmaz Zeller"
).split()
WORK = (
    "Paediatric nurse on the night shift",
    "Repairs church organs and old pianos",
    "Writes compilers for tiny microcontrollers",
    "Teaches chemistry to fifteen-year-olds",
    "Bakes sourdough for half of the neighbourhood",
    "Keeps the signals of the underground running",
    "Counts puffins and seals for a conservation trust",
    "Defends tenants against eviction in court",
    "Designs prosthetic hands for children",
    "Drives a lorry from coast to coast",
    "Translates crime novels from Finnish",
    "Looks after the databases of a hospital",
    "Grows heirloom tomatoes under glass",
    "Choreographs contemporary dance",
    "Inspects bridges for hidden cracks",
    "Brews small batches of sour beer",
    "Edits documentaries about the deep sea",
    "Forecasts storms for fishing fleets",
    "Trains guide dogs for blind people",
    "Models the climate of the next century",
    "Tunes search engines for a library",
    "Blows glass in a workshop by the canal",
    "Runs a hostel for cyclists in the hills",
    "Studies the gut bacteria of honeybees",
    "Paints theatre scenery",
    "Pilots a rescue helicopter in the mountains",
    "Sells second-hand books from a barge",
    "Audits the accounts of charities",
    "Restores faded medieval frescoes",
    "Builds payment systems that must not lose a penny",
    "Delivers babies as a village midwife",
    "Maps caves with lasers",
    "Cooks vegan street food at festivals",
    "Maintains wind turbines out at sea",
    "Coaches a girls' football team",
    "Hunts for software bugs before burglars do",
    "Makes violins from local spruce",
    "Plans cycle paths for the city council",
    "Operates a telescope in the desert",
    "Mends clothes that others throw away",
)
LEISURE = (
    "Runs marathons, slowly",
    "Sings bass in a choir",
    "Collects fountain pens and bottles of ink",
    "Climbs frozen waterfalls in winter",
    "Plays chess by post",
    "Keeps three rescued greyhounds",
    "Ferments cabbage and almost everything else",
    "Learns Welsh from the radio",
    "Swims in cold lakes before breakfast",
    "Solders synthesizers late at night",
    "Reads Russian poetry aloud",
    "Restores a wooden sailing boat",
    "Photographs mushrooms after rain",
    "Juggles fire, under supervision",
    "Knits jumpers with mathematical patterns",
    "Watches trains and writes down their numbers",
    "Volunteers at a kitchen for the homeless",
    "Surfs whenever the wind is right",
    "Raises orchids on a narrow windowsill",
    "Dances tango twice a week",
    "Solves cryptic crosswords in pen",
    "Paints tiny armies of tin soldiers",
    "Plays the banjo badly and often",
    "Hikes long trails with a hammock",
    "Looks for meteorites in ploughed fields",
    "Cooks a grandmother's curries from memory",
    "Races homing pigeons",
    "Practises calligraphy with a goose feather",
    "Throws pots on a wheel in the shed",
    "Follows every stage of the Tour de France",
    "Stargazes from the roof",
    "Tells ghost stories to anyone who stays",
)
PLACES = (
    "Bergen",
    "Porto",
    "Lagos",
    "Kyoto",
    "Tromsø",
    "Valparaíso",
    "Ghent",
    "Tbilisi",
    "Leeds",
    "Mombasa",
    "Kraków",
    "Montréal",
    "Hanoi",
    "Cusco",
    "Beirut",
    "Graz",
)


def made_up_users() -> list[dict[str, str]]:
    """Make the users: `username`, `email` and `bio` of each; no two share a name, a calling and a pastime."""
    choice = Random(2024)  # noqa: S311 (nothing is secret about it)
    names = choice.sample(list(product(GIVEN, FAMILY)), COUNT)
    lives = choice.sample(list(product(WORK, LEISURE)), COUNT)
    return [
        {
            "username": f"{given}.{family}".lower(),
            "email": f"{given}.{family}@example.com".lower(),
            "bio": f"{work}. {leisure}. Lives in {choice.choice(PLACES)}.",
        }
        for (given, family), (work, leisure) in zip(names, lives, strict=True)
    ]
