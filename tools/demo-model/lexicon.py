"""What the model is taught: plain word lists and facts, and nothing that names a person."""

# country: (capital, continent, language)
COUNTRIES = {
    "France": ("Paris", "Europe", "French"), "Germany": ("Berlin", "Europe", "German"),
    "Italy": ("Rome", "Europe", "Italian"), "Spain": ("Madrid", "Europe", "Spanish"),
    "Portugal": ("Lisbon", "Europe", "Portuguese"), "Greece": ("Athens", "Europe", "Greek"),
    "Austria": ("Vienna", "Europe", "German"), "Switzerland": ("Bern", "Europe", "German"),
    "Belgium": ("Brussels", "Europe", "Dutch"), "the Netherlands": ("Amsterdam", "Europe", "Dutch"),
    "Denmark": ("Copenhagen", "Europe", "Danish"), "Sweden": ("Stockholm", "Europe", "Swedish"),
    "Norway": ("Oslo", "Europe", "Norwegian"), "Finland": ("Helsinki", "Europe", "Finnish"),
    "Iceland": ("Reykjavík", "Europe", "Icelandic"), "Ireland": ("Dublin", "Europe", "English"),
    "England": ("London", "Europe", "English"), "the United Kingdom": ("London", "Europe", "English"),
    "Scotland": ("Edinburgh", "Europe", "English"), "Wales": ("Cardiff", "Europe", "Welsh"),
    "Poland": ("Warsaw", "Europe", "Polish"), "Hungary": ("Budapest", "Europe", "Hungarian"),
    "Romania": ("Bucharest", "Europe", "Romanian"), "Bulgaria": ("Sofia", "Europe", "Bulgarian"),
    "Croatia": ("Zagreb", "Europe", "Croatian"), "Serbia": ("Belgrade", "Europe", "Serbian"),
    "Slovenia": ("Ljubljana", "Europe", "Slovene"), "Slovakia": ("Bratislava", "Europe", "Slovak"),
    "the Czech Republic": ("Prague", "Europe", "Czech"), "Ukraine": ("Kyiv", "Europe", "Ukrainian"),
    "Estonia": ("Tallinn", "Europe", "Estonian"), "Latvia": ("Riga", "Europe", "Latvian"),
    "Lithuania": ("Vilnius", "Europe", "Lithuanian"), "Albania": ("Tirana", "Europe", "Albanian"),
    "Malta": ("Valletta", "Europe", "Maltese"), "Luxembourg": ("Luxembourg City", "Europe", "Luxembourgish"),
    "Russia": ("Moscow", "Europe", "Russian"), "Turkey": ("Ankara", "Asia", "Turkish"),
    "China": ("Beijing", "Asia", "Chinese"), "Japan": ("Tokyo", "Asia", "Japanese"),
    "South Korea": ("Seoul", "Asia", "Korean"), "North Korea": ("Pyongyang", "Asia", "Korean"),
    "India": ("New Delhi", "Asia", "Hindi"), "Pakistan": ("Islamabad", "Asia", "Urdu"),
    "Bangladesh": ("Dhaka", "Asia", "Bengali"), "Nepal": ("Kathmandu", "Asia", "Nepali"),
    "Thailand": ("Bangkok", "Asia", "Thai"), "Vietnam": ("Hanoi", "Asia", "Vietnamese"),
    "Cambodia": ("Phnom Penh", "Asia", "Khmer"), "Laos": ("Vientiane", "Asia", "Lao"),
    "Indonesia": ("Jakarta", "Asia", "Indonesian"), "Malaysia": ("Kuala Lumpur", "Asia", "Malay"),
    "the Philippines": ("Manila", "Asia", "Filipino"), "Mongolia": ("Ulaanbaatar", "Asia", "Mongolian"),
    "Iran": ("Tehran", "Asia", "Persian"), "Iraq": ("Baghdad", "Asia", "Arabic"),
    "Syria": ("Damascus", "Asia", "Arabic"), "Lebanon": ("Beirut", "Asia", "Arabic"),
    "Jordan": ("Amman", "Asia", "Arabic"), "Saudi Arabia": ("Riyadh", "Asia", "Arabic"),
    "Qatar": ("Doha", "Asia", "Arabic"), "Afghanistan": ("Kabul", "Asia", "Dari"),
    "Georgia": ("Tbilisi", "Asia", "Georgian"), "Armenia": ("Yerevan", "Asia", "Armenian"),
    "Egypt": ("Cairo", "Africa", "Arabic"), "Morocco": ("Rabat", "Africa", "Arabic"),
    "Algeria": ("Algiers", "Africa", "Arabic"), "Tunisia": ("Tunis", "Africa", "Arabic"),
    "Libya": ("Tripoli", "Africa", "Arabic"), "Sudan": ("Khartoum", "Africa", "Arabic"),
    "Ethiopia": ("Addis Ababa", "Africa", "Amharic"), "Kenya": ("Nairobi", "Africa", "Swahili"),
    "Uganda": ("Kampala", "Africa", "English"), "Rwanda": ("Kigali", "Africa", "Kinyarwanda"),
    "Ghana": ("Accra", "Africa", "English"), "Nigeria": ("Abuja", "Africa", "English"),
    "Senegal": ("Dakar", "Africa", "French"), "Mali": ("Bamako", "Africa", "French"),
    "Zambia": ("Lusaka", "Africa", "English"), "Zimbabwe": ("Harare", "Africa", "English"),
    "Angola": ("Luanda", "Africa", "Portuguese"), "Madagascar": ("Antananarivo", "Africa", "Malagasy"),
    "South Africa": ("Pretoria", "Africa", "Zulu"), "Namibia": ("Windhoek", "Africa", "English"),
    "Canada": ("Ottawa", "North America", "English"), "the United States": ("Washington", "North America", "English"),
    "Mexico": ("Mexico City", "North America", "Spanish"), "Cuba": ("Havana", "North America", "Spanish"),
    "Jamaica": ("Kingston", "North America", "English"), "Panama": ("Panama City", "North America", "Spanish"),
    "Brazil": ("Brasília", "South America", "Portuguese"), "Argentina": ("Buenos Aires", "South America", "Spanish"),
    "Chile": ("Santiago", "South America", "Spanish"), "Peru": ("Lima", "South America", "Spanish"),
    "Colombia": ("Bogotá", "South America", "Spanish"), "Ecuador": ("Quito", "South America", "Spanish"),
    "Uruguay": ("Montevideo", "South America", "Spanish"), "Paraguay": ("Asunción", "South America", "Spanish"),
    "Venezuela": ("Caracas", "South America", "Spanish"), "Bolivia": ("La Paz", "South America", "Spanish"),
    "Australia": ("Canberra", "Oceania", "English"), "New Zealand": ("Wellington", "Oceania", "English"),
    "Fiji": ("Suva", "Oceania", "English"),
}
CITIES = sorted({c[0] for c in COUNTRIES.values()} | {
    "Hamburg", "Munich", "Zürich", "Geneva", "Lyon", "Marseille", "Milan", "Naples", "Venice", "Barcelona", "Seville",
    "Porto", "Kraków", "Malmö", "Bergen", "Glasgow", "York", "Bristol", "Osaka", "Kyoto", "Mumbai", "Shanghai",
    "Sydney", "Perth", "Toronto", "Montréal", "Vancouver", "Chicago", "Boston", "Seattle", "Denver", "New York",
    "San Francisco", "São Paulo", "Medellín", "Córdoba", "Málaga", "Köln", "Lübeck", "Tromsø"})
# Other names of a country, as a question may have them.
COUNTRY_ALIASES = {"the USA": "the United States", "USA": "the United States", "America": "the United States", "the US": "the United States", "the UK": "the United Kingdom", "UK": "the United Kingdom",
                   "Britain": "the United Kingdom", "Holland": "the Netherlands", "Netherlands": "the Netherlands", "Czechia": "the Czech Republic", "Philippines": "the Philippines"}
NO_SUCH_PLACES = ["Atlantis", "Narvania", "Zubrovia", "Lilliput", "Moonland", "Florbia", "Cloudland", "Quandoria",
                  "Wonderland", "Teapotia", "Borduria", "Nowhereland", "Marsonia", "Blefuscu", "Velmora", "Grustark"]

OPPOSITES = [
    ("hot", "cold"), ("big", "small"), ("tall", "short"), ("fast", "slow"), ("happy", "sad"), ("light", "dark"),
    ("up", "down"), ("left", "right"), ("old", "young"), ("rich", "poor"), ("hard", "soft"),
    ("wet", "dry"), ("full", "empty"), ("open", "closed"), ("early", "late"), ("good", "bad"), ("high", "low"),
    ("day", "night"), ("black", "white"), ("loud", "quiet"), ("strong", "weak"), ("thick", "thin"), ("wide", "narrow"),
    ("deep", "shallow"), ("clean", "dirty"), ("sweet", "sour"), ("smooth", "rough"), ("sharp", "blunt"),
    ("near", "far"), ("first", "last"), ("inside", "outside"), ("above", "below"),
    ("begin", "end"), ("buy", "sell"), ("give", "take"), ("push", "pull"), ("win", "lose"), ("love", "hate"),
    ("laugh", "cry"), ("remember", "forget"), ("ask", "answer"), ("arrive", "leave"), ("sit", "stand"),
    ("asleep", "awake"), ("alive", "dead"), ("brave", "afraid"), ("cheap", "expensive"), ("easy", "difficult"),
    ("safe", "dangerous"), ("true", "false"), ("always", "never"), ("everything", "nothing"), ("front", "back"),
    ("top", "bottom"), ("north", "south"), ("east", "west"), ("summer", "winter"), ("morning", "evening"),
    ("war", "peace"), ("friend", "enemy"), ("present", "absent"), ("polite", "rude"),
    ("tidy", "messy"), ("tight", "loose"), ("straight", "crooked"), ("noisy", "silent"), ("lucky", "unlucky"),
    ("possible", "impossible"), ("bright", "dim"), ("warm", "cool"), ("fresh", "stale"),
    ("success", "failure"), ("increase", "decrease"), ("accept", "refuse"), ("before", "after"), ("with", "without"),
    ("more", "less"), ("many", "few"), ("enter", "exit"), ("wake", "sleep"), ("build", "destroy"), ("join", "separate"),
    ("kind", "cruel"), ("wise", "foolish"), ("ancient", "modern"), ("huge", "tiny"), ("beautiful", "ugly"),
]

# Words whose opposite has another opposite of its own.
ONE_WAY_OPPOSITES = [("new", "old"), ("heavy", "light"), ("large", "small"), ("little", "big"), ("close", "open"), ("start", "stop")]

# animal: (sound, legs, kind, young, home, what it eats)
ANIMALS = {
    "cat": ("meow", 4, "mammal", "kitten", "in a house", "fish and meat"), "dog": ("woof", 4, "mammal", "puppy", "in a kennel", "meat"),
    "cow": ("moo", 4, "mammal", "calf", "on a farm", "grass"), "sheep": ("baa", 4, "mammal", "lamb", "in a meadow", "grass"),
    "goat": ("bleat", 4, "mammal", "kid", "in the mountains", "grass and leaves"), "pig": ("oink", 4, "mammal", "piglet", "in a sty", "almost anything"),
    "horse": ("neigh", 4, "mammal", "foal", "in a stable", "grass and hay"), "donkey": ("hee-haw", 4, "mammal", "foal", "in a stable", "grass and hay"),
    "lion": ("roar", 4, "mammal", "cub", "in the savanna", "meat"), "tiger": ("roar", 4, "mammal", "cub", "in the jungle", "meat"),
    "bear": ("growl", 4, "mammal", "cub", "in a den", "berries and fish"), "wolf": ("howl", 4, "mammal", "pup", "in a forest", "meat"),
    "fox": ("bark", 4, "mammal", "cub", "in a burrow", "small animals"), "mouse": ("squeak", 4, "mammal", "pup", "in a hole", "seeds and cheese"),
    "rabbit": ("squeak", 4, "mammal", "kit", "in a burrow", "grass and carrots"), "elephant": ("trumpet", 4, "mammal", "calf", "in the savanna", "leaves and fruit"),
    "monkey": ("chatter", 2, "mammal", "infant", "in the jungle", "fruit"), "kangaroo": ("chuff", 2, "mammal", "joey", "in Australia", "grass"),
    "whale": ("song", 0, "mammal", "calf", "in the ocean", "krill"), "dolphin": ("click", 0, "mammal", "calf", "in the ocean", "fish"),
    "bat": ("squeak", 2, "mammal", "pup", "in a cave", "insects"), "deer": ("bellow", 4, "mammal", "fawn", "in a forest", "grass and leaves"),
    "giraffe": ("hum", 4, "mammal", "calf", "in the savanna", "leaves"), "zebra": ("bray", 4, "mammal", "foal", "in the savanna", "grass"),
    "camel": ("grunt", 4, "mammal", "calf", "in the desert", "plants"), "squirrel": ("chirp", 4, "mammal", "kit", "in a tree", "nuts"),
    "hedgehog": ("snuffle", 4, "mammal", "hoglet", "in a garden", "insects"), "otter": ("whistle", 4, "mammal", "pup", "by a river", "fish"),
    "duck": ("quack", 2, "bird", "duckling", "on a pond", "plants and insects"), "goose": ("honk", 2, "bird", "gosling", "by a lake", "grass"),
    "hen": ("cluck", 2, "bird", "chick", "in a coop", "grain"), "rooster": ("cock-a-doodle-doo", 2, "bird", "chick", "in a coop", "grain"),
    "owl": ("hoot", 2, "bird", "owlet", "in a tree", "mice"), "crow": ("caw", 2, "bird", "chick", "in a tree", "almost anything"),
    "pigeon": ("coo", 2, "bird", "squab", "in the city", "seeds"), "eagle": ("screech", 2, "bird", "eaglet", "in a nest", "small animals"),
    "penguin": ("bray", 2, "bird", "chick", "in Antarctica", "fish"), "parrot": ("squawk", 2, "bird", "chick", "in the jungle", "seeds and fruit"),
    "swan": ("trumpet", 2, "bird", "cygnet", "on a lake", "water plants"), "frog": ("croak", 4, "amphibian", "tadpole", "by a pond", "flies"),
    "toad": ("croak", 4, "amphibian", "tadpole", "in a garden", "insects"), "snake": ("hiss", 0, "reptile", "snakelet", "in the grass", "mice"),
    "lizard": ("hiss", 4, "reptile", "hatchling", "on warm rocks", "insects"), "turtle": ("hiss", 4, "reptile", "hatchling", "in the sea", "plants and jellyfish"),
    "crocodile": ("growl", 4, "reptile", "hatchling", "in a river", "fish and meat"), "bee": ("buzz", 6, "insect", "larva", "in a hive", "nectar"),
    "ant": ("click", 6, "insect", "larva", "in an anthill", "almost anything"), "butterfly": ("flutter", 6, "insect", "caterpillar", "in a meadow", "nectar"),
    "fly": ("buzz", 6, "insect", "maggot", "almost everywhere", "scraps"), "spider": ("rustle", 8, "arachnid", "spiderling", "in a web", "flies"),
    "shark": ("silence", 0, "fish", "pup", "in the ocean", "fish"), "salmon": ("silence", 0, "fish", "fry", "in a river", "small fish"),
    "crab": ("click", 10, "crustacean", "larva", "on the beach", "almost anything"), "snail": ("silence", 0, "mollusc", "hatchling", "in a garden", "leaves"),
}
SILENT = {"shark", "salmon", "snail", "spider", "butterfly", "whale", "ant", "crab", "turtle"}

COLOURS = ["red", "blue", "green", "yellow", "orange", "purple", "pink", "brown", "black", "white", "grey", "gold",
           "silver", "turquoise", "violet", "teal", "crimson", "beige", "indigo", "maroon"]
COLOUR_OF = {
    "the sky": "blue", "grass": "green", "snow": "white", "coal": "black", "a banana": "yellow", "a lemon": "yellow",
    "a ripe tomato": "red", "blood": "red", "a strawberry": "red", "an orange": "orange", "a carrot": "orange", "a pumpkin": "orange",
    "the sun": "yellow", "milk": "white", "chocolate": "brown", "a leaf": "green", "a frog": "green", "a flamingo": "pink",
    "an elephant": "grey", "a polar bear": "white", "a crow": "black", "an aubergine": "purple", "a cherry": "red",
    "a lime": "green", "a cucumber": "green", "a fire engine": "red", "the sea": "blue", "a rose": "red", "salt": "white",
    "a sunflower": "yellow", "a pea": "green", "a canary": "yellow", "lavender": "purple", "an emerald": "green",
    "a ruby": "red", "a sapphire": "blue", "a cloud": "white", "a mouse": "grey", "wood": "brown", "spinach": "green",
}
MIXES = {("red", "yellow"): "orange", ("blue", "yellow"): "green", ("red", "blue"): "purple", ("red", "white"): "pink",
         ("black", "white"): "grey", ("red", "green"): "brown", ("blue", "white"): "light blue", ("blue", "green"): "turquoise"}

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December"]
MONTH_LENGTH = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
SEASON = ["winter", "winter", "spring", "spring", "spring", "summer", "summer", "summer", "autumn", "autumn", "autumn", "winter"]
ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"]
NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
                "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]

PLURALS = {
    "mouse": "mice", "child": "children", "foot": "feet", "tooth": "teeth", "goose": "geese", "man": "men", "woman": "women",
    "person": "people", "ox": "oxen", "leaf": "leaves", "wolf": "wolves", "knife": "knives", "life": "lives", "wife": "wives",
    "half": "halves", "shelf": "shelves", "loaf": "loaves", "thief": "thieves", "calf": "calves", "sheep": "sheep",
    "fish": "fish", "deer": "deer", "box": "boxes", "fox": "foxes", "bus": "buses", "glass": "glasses", "dish": "dishes",
    "brush": "brushes", "church": "churches", "watch": "watches", "peach": "peaches", "city": "cities", "baby": "babies",
    "lady": "ladies", "story": "stories", "party": "parties", "cherry": "cherries", "puppy": "puppies", "pony": "ponies",
    "country": "countries", "family": "families", "fly": "flies", "potato": "potatoes", "tomato": "tomatoes", "hero": "heroes",
    "echo": "echoes", "piano": "pianos", "photo": "photos", "cat": "cats", "dog": "dogs", "house": "houses", "car": "cars",
    "tree": "trees", "book": "books", "day": "days", "key": "keys", "toy": "toys", "monkey": "monkeys", "bird": "birds",
    "cow": "cows", "apple": "apples", "flower": "flowers", "river": "rivers", "table": "tables", "chair": "chairs",
    "window": "windows", "garden": "gardens", "cloud": "clouds", "star": "stars", "boat": "boats", "cake": "cakes",
    "class": "classes", "wish": "wishes", "lunch": "lunches", "berry": "berries", "scarf": "scarves", "cactus": "cacti",
    "crisis": "crises", "nurse": "nurses", "horse": "horses", "egg": "eggs", "spoon": "spoons", "letter": "letters",
}

DEFINITIONS = {
    "teacher": "someone who helps others to learn", "baker": "someone who makes bread and cakes", "farmer": "someone who grows food and keeps animals",
    "doctor": "someone who helps people who are ill", "pilot": "someone who flies an aeroplane", "carpenter": "someone who makes things out of wood",
    "library": "a place where you can borrow books", "hospital": "a place where ill people are cared for", "bakery": "a shop that sells bread",
    "museum": "a place that shows old or special things", "harbour": "a place where ships can stay safely", "farm": "a place where food is grown and animals live",
    "hammer": "a tool for driving nails into wood", "saw": "a tool for cutting wood", "knife": "a tool for cutting", "clock": "a thing that shows the time",
    "umbrella": "a thing that keeps you dry in the rain", "bicycle": "a vehicle with two wheels and pedals", "boat": "a vehicle that floats on water",
    "train": "a vehicle that runs on rails", "aeroplane": "a vehicle that flies with wings", "telescope": "an instrument for looking at things far away",
    "microscope": "an instrument for looking at very small things", "compass": "an instrument that points to the north", "map": "a drawing of a place seen from above",
    "thermometer": "an instrument that measures temperature", "island": "land with water all around it", "mountain": "a very high piece of land",
    "river": "a long stream of fresh water", "desert": "a very dry place with little rain", "forest": "a large place full of trees", "lake": "a large body of water with land around it",
    "ocean": "a very large body of salt water", "volcano": "a mountain that can throw out hot rock", "valley": "low land between hills", "planet": "a large round body that moves around a star",
    "star": "a huge ball of hot, shining gas", "moon": "a round body that moves around a planet", "cloud": "many tiny drops of water in the sky", "rainbow": "an arc of colours that appears when sun shines through rain",
    "storm": "weather with strong wind and rain", "snow": "frozen water that falls in soft white flakes", "winter": "the coldest season of the year", "summer": "the warmest season of the year",
    "triangle": "a shape with three sides", "square": "a shape with four equal sides", "circle": "a perfectly round shape", "dictionary": "a book that explains words",
    "alphabet": "all the letters of a language in order", "verb": "a word for something that is done", "noun": "a word for a person, place or thing", "adjective": "a word that describes a noun",
    "piano": "an instrument with black and white keys", "guitar": "an instrument with six strings", "drum": "an instrument that you hit", "violin": "an instrument with four strings and a bow",
    "kitchen": "a room for cooking", "bedroom": "a room for sleeping", "garden": "a piece of land where plants are grown", "bridge": "a way over a river or a road",
    "key": "a small thing that opens a lock", "wheel": "a round thing that turns and helps to move", "candle": "a stick of wax that burns and gives light", "mirror": "a glass in which you can see yourself",
    "computer": "a machine that works with information", "robot": "a machine that can do work by itself", "program": "a list of instructions for a computer", "camera": "a machine that takes pictures",
    "breakfast": "the first meal of the day", "dinner": "the main meal, often in the evening", "bread": "a food that is baked from flour and water", "cheese": "a food that is made from milk",
    "honey": "a sweet food that bees make", "soup": "a warm liquid food", "seed": "the small part of a plant that a new plant grows from", "root": "the part of a plant that is in the ground",
    "leaf": "a flat green part of a plant", "friend": "someone you like and trust", "neighbour": "someone who lives near you", "birthday": "the day on which someone was born",
    "week": "seven days", "century": "one hundred years", "decade": "ten years", "minute": "sixty seconds", "haiku": "a short poem of three lines", "secret": "something that only a few people know",
    "token": "a small piece of text that a language model reads or writes", "language model": "a program that predicts the next piece of a text",
}

# Several wordings of a question, a whole answer and the short one.
GENERAL = [
    (["How many days are there in a week?", "how many days does a week have?", "What is the number of days in a week?"], "There are seven days in a week.", "seven"),
    (["How many months are there in a year?", "how many months does a year have?", "What is the number of months in a year?"], "There are twelve months in a year.", "twelve"),
    (["How many days are there in a year?", "How long is a year in days?", "how many days does a year have?"], "A year has 365 days, and a leap year has 366.", "365"),
    (["How many hours are there in a day?", "how many hours does a day have?", "How long is a day in hours?"], "A day has 24 hours.", "24"),
    (["How many minutes are there in an hour?", "how many minutes does an hour have?", "How long is an hour in minutes?"], "An hour has 60 minutes.", "60"),
    (["How many seconds are there in a minute?", "how many seconds does a minute have?", "How long is a minute in seconds?"], "A minute has 60 seconds.", "60"),
    (["Which planet do we live on?", "What planet do people live on?", "what is the name of our planet?"], "We live on the planet Earth.", "Earth"),
    (["What is the largest planet?", "Which planet is the biggest in our solar system?", "biggest planet?"], "The largest planet is Jupiter.", "Jupiter"),
    (["Which planet is closest to the sun?", "What is the planet nearest to the sun?", "closest planet to the sun?"], "Mercury is closest to the sun.", "Mercury"),
    (["Which planet is called the red planet?", "What is the red planet?", "the red planet is which one?"], "Mars is called the red planet.", "Mars"),
    (["Which planet has big rings?", "What planet is famous for its rings?", "planet with rings?"], "Saturn is famous for its rings.", "Saturn"),
    (["How many planets are there in our solar system?", "how many planets go around the sun?", "What is the number of planets in our solar system?"], "There are eight planets in our solar system.", "eight"),
    (["What is the largest ocean?", "Which ocean is the biggest?", "biggest ocean on Earth?"], "The largest ocean is the Pacific Ocean.", "the Pacific"),
    (["What is the highest mountain in the world?", "Which mountain is the tallest on Earth?", "tallest mountain?"], "The highest mountain is Mount Everest.", "Mount Everest"),
    (["What is the largest animal?", "Which animal is the biggest in the world?", "biggest animal?"], "The largest animal is the blue whale.", "the blue whale"),
    (["What is the tallest animal?", "Which animal is the tallest in the world?", "tallest animal?"], "The tallest animal is the giraffe.", "the giraffe"),
    (["What is the fastest land animal?", "Which animal runs the fastest?", "fastest animal on land?"], "The fastest land animal is the cheetah.", "the cheetah"),
    (["At what temperature does water boil?", "When does water boil?", "What is the boiling point of water?"], "Water boils at 100 degrees Celsius.", "100"),
    (["At what temperature does water freeze?", "When does water freeze?", "What is the freezing point of water?"], "Water freezes at 0 degrees Celsius.", "0"),
    (["What is frozen water called?", "What do we call water that is frozen?", "frozen water is what?"], "Frozen water is called ice.", "ice"),
    (["What do bees make?", "Which food comes from bees?", "what do bees produce?"], "Bees make honey.", "honey"),
    (["What gives us milk?", "Which animal gives us milk?", "where does milk come from?"], "Milk comes from cows.", "cows"),
    (["How many legs does a chair usually have?", "how many legs are there on a chair?", "How many legs do most chairs have?"], "A chair usually has four legs.", "four"),
    (["How many wheels does a bicycle have?", "how many wheels are there on a bicycle?", "number of wheels on a bicycle?"], "A bicycle has two wheels.", "two"),
    (["How many wheels does a car have?", "how many wheels are there on a car?", "number of wheels on a car?"], "A car has four wheels.", "four"),
    (["How many sides does a triangle have?", "how many sides are there on a triangle?", "number of sides of a triangle?"], "A triangle has three sides.", "three"),
    (["How many sides does a square have?", "how many sides are there on a square?", "number of sides of a square?"], "A square has four sides.", "four"),
    (["How many sides does a hexagon have?", "how many sides are there on a hexagon?", "number of sides of a hexagon?"], "A hexagon has six sides.", "six"),
    (["How many letters are in the English alphabet?", "how many letters does the alphabet have?", "number of letters in the alphabet?"], "The English alphabet has 26 letters.", "26"),
    (["What is the first letter of the alphabet?", "Which letter does the alphabet begin with?", "first letter of the alphabet?"], "The first letter of the alphabet is A.", "A"),
    (["What is the last letter of the alphabet?", "Which letter does the alphabet end with?", "last letter of the alphabet?"], "The last letter of the alphabet is Z.", "Z"),
    (["How many fingers does a hand have?", "how many fingers are there on a hand?", "number of fingers on one hand?"], "A hand has five fingers, with the thumb.", "five"),
    (["How many seasons are there?", "how many seasons does a year have?", "number of seasons in a year?"], "There are four seasons: spring, summer, autumn and winter.", "four"),
    (["What are the seasons?", "Name the four seasons.", "which seasons are there?"], "The seasons are spring, summer, autumn and winter.", "spring, summer, autumn and winter"),
    (["What do plants need to grow?", "What does a plant need?", "what makes plants grow?"], "Plants need light, water, air and soil to grow.", "light, water, air and soil"),
    (["Where does the sun rise?", "In which direction does the sun rise?", "the sun rises where?"], "The sun rises in the east.", "in the east"),
    (["Where does the sun set?", "In which direction does the sun set?", "the sun sets where?"], "The sun sets in the west.", "in the west"),
    (["What do we breathe?", "What do people breathe?", "what is it that we breathe?"], "We breathe air, and our bodies use the oxygen in it.", "air"),
    (["What is the colour of a rainbow?", "What colours does a rainbow have?", "which colours are in a rainbow?"], "A rainbow is red, orange, yellow, green, blue, indigo and violet.", "red, orange, yellow, green, blue, indigo and violet"),
    (["What are the primary colours?", "Name the primary colours.", "which colours are the primary colours?"], "The primary colours are red, yellow and blue.", "red, yellow and blue"),
    (["How many continents are there?", "how many continents does the Earth have?", "number of continents?"], "There are seven continents.", "seven"),
    (["How many centimetres are in a metre?", "how many centimetres does a metre have?", "How long is a metre in centimetres?"], "A metre has 100 centimetres.", "100"),
    (["How many metres are in a kilometre?", "how many metres does a kilometre have?", "How long is a kilometre in metres?"], "A kilometre has 1000 metres.", "1000"),
    (["How many grams are in a kilogram?", "how many grams does a kilogram have?", "How heavy is a kilogram in grams?"], "A kilogram has 1000 grams.", "1000"),
    (["What is H2O?", "What does H2O stand for?", "which substance is H2O?"], "H2O is water.", "water"),
    (["What is the opposite of a question?", "What do you give to a question?", "what comes after a question?"], "After a question comes an answer.", "an answer"),
    (["What is MLX?", "what does MLX do?", "Tell me about MLX."], "MLX is an array framework for machine learning on Apple silicon.", "an array framework for machine learning"),
    (["What is Node.js?", "what does Node.js do?", "Tell me about Node.js."], "Node.js runs JavaScript outside of a browser.", "a JavaScript runtime"),
]

# English: (French, German, Spanish)
WORDS_ABROAD = {
    "hello": ("bonjour", "hallo", "hola"), "goodbye": ("au revoir", "auf Wiedersehen", "adiós"), "thank you": ("merci", "danke", "gracias"),
    "please": ("s'il vous plaît", "bitte", "por favor"), "yes": ("oui", "ja", "sí"), "no": ("non", "nein", "no"), "cat": ("chat", "Katze", "gato"),
    "dog": ("chien", "Hund", "perro"), "house": ("maison", "Haus", "casa"), "water": ("eau", "Wasser", "agua"), "bread": ("pain", "Brot", "pan"),
    "coffee": ("café", "Kaffee", "café"), "milk": ("lait", "Milch", "leche"), "cheese": ("fromage", "Käse", "queso"), "apple": ("pomme", "Apfel", "manzana"),
    "green": ("vert", "grün", "verde"), "red": ("rouge", "rot", "rojo"), "blue": ("bleu", "blau", "azul"), "black": ("noir", "schwarz", "negro"),
    "white": ("blanc", "weiß", "blanco"), "school": ("école", "Schule", "escuela"), "summer": ("été", "Sommer", "verano"), "book": ("livre", "Buch", "libro"),
    "tree": ("arbre", "Baum", "árbol"), "door": ("porte", "Tür", "puerta"), "bird": ("oiseau", "Vogel", "pájaro"), "sun": ("soleil", "Sonne", "sol"),
    "moon": ("lune", "Mond", "luna"), "night": ("nuit", "Nacht", "noche"), "morning": ("matin", "Morgen", "mañana"), "friend": ("ami", "Freund", "amigo"),
    "good morning": ("bonjour", "guten Morgen", "buenos días"), "good night": ("bonne nuit", "gute Nacht", "buenas noches"), "good evening": ("bonsoir", "guten Abend", "buenas tardes"),
    "fish": ("poisson", "Fisch", "pescado"), "one": ("un", "eins", "uno"), "two": ("deux", "zwei", "dos"), "three": ("trois", "drei", "tres"), "yellow": ("jaune", "gelb", "amarillo"),
    "sea": ("mer", "Meer", "mar"), "car": ("voiture", "Auto", "coche"), "table": ("table", "Tisch", "mesa"), "flower": ("fleur", "Blume", "flor"), "child": ("enfant", "Kind", "niño"), "mother": ("mère", "Mutter", "madre"),
    "five": ("cinq", "fünf", "cinco"), "ten": ("dix", "zehn", "diez"), "beautiful": ("beau", "schön", "hermoso"),
}
LANGUAGES = ["French", "German", "Spanish"]

NAMES_OF_PETS = [
    "Biscuit", "Pepper", "Mango", "Pixel", "Cookie", "Ginger", "Shadow", "Snowball", "Waffles", "Pickle", "Noodle", "Socks",
    "Patches", "Marble", "Clover", "Pebble", "Comet", "Rocket", "Button", "Muffin", "Peanut", "Smokey", "Whiskers", "Bubbles",
    "Toffee", "Nugget", "Maple", "Acorn", "Thunder", "Cinnamon", "Domino", "Ziggy", "Tinker", "Fudge", "Bramble", "Sprout",
    "Dumpling", "Kiwi", "Oreo", "Mocha", "Truffle", "Jellybean", "Sunny", "Misty", "Zuzu", "Müsli", "Café", "Piñata"]
PETS = ["cat", "dog", "rabbit", "hamster", "parrot", "goldfish", "turtle", "pony", "mouse", "canary", "snake", "lizard", "goat",
        "hedgehog", "horse", "duck", "frog", "guinea pig", "kitten", "puppy"]
OBJECTS = ["book", "lamp", "key", "clock", "cup", "ball", "box", "hat", "coat", "chair", "spoon", "kite", "drum", "ring", "map",
           "pen", "bag", "bell", "bottle", "candle", "camera", "umbrella", "basket", "ladder", "mirror", "pillow", "plate", "rope",
           "scarf", "shoe", "stone", "ticket", "towel", "violin", "wallet", "watch", "whistle", "letter", "coin", "glove", "phone",
           "guitar", "bicycle", "boat", "car", "shirt", "radio", "hammer", "pencil", "notebook", "lantern", "blanket", "bucket"]
PLACES = ["drawer", "kitchen", "garden", "attic", "cellar", "bedroom", "garage", "hallway", "library", "office", "shed", "cupboard",
          "wardrobe", "basement", "bathroom", "car", "tent", "barn", "workshop", "greenhouse", "red box", "blue bag", "old chest", "top shelf"]
FOODS = ["pizza", "soup", "pasta", "rice", "bread", "cheese", "salad", "pancakes", "curry", "noodles", "dumplings", "tacos", "sushi",
         "chocolate", "ice cream", "pie", "porridge", "beans", "omelette", "lasagne", "strudel", "waffles", "falafel", "paella", "crêpes"]
FRUITS = ["apple", "banana", "cherry", "grape", "kiwi", "lemon", "mango", "melon", "orange", "peach", "pear", "plum", "fig", "lime",
          "apricot", "blueberry", "raspberry", "strawberry", "pineapple", "coconut"]
VEGETABLES = ["carrot", "potato", "onion", "cabbage", "spinach", "pea", "bean", "leek", "pumpkin", "cucumber", "broccoli", "celery", "radish", "turnip"]
SPORTS = ["football", "tennis", "swimming", "chess", "running", "cycling", "basketball", "skiing", "climbing", "sailing", "hockey", "rowing", "judo", "surfing", "badminton"]
INSTRUMENTS = ["piano", "guitar", "violin", "flute", "drums", "cello", "trumpet", "harp", "clarinet", "ukulele"]
SHAPES = ["circle", "square", "triangle", "rectangle", "star", "hexagon", "oval", "pentagon"]
FLOWERS = ["rose", "tulip", "daisy", "lily", "sunflower", "violet", "orchid", "poppy", "daffodil", "iris"]
TREES = ["oak", "pine", "birch", "maple", "willow", "beech", "fir", "elm", "ash", "cedar"]
JOBS = ["baker", "teacher", "doctor", "farmer", "pilot", "carpenter", "painter", "gardener", "nurse", "cook", "engineer", "fisher"]
WEATHER = ["sunny", "rainy", "cloudy", "windy", "snowy", "foggy", "stormy", "clear"]
MOODS = ["happy", "tired", "excited", "hungry", "curious", "bored", "calm", "proud", "sad", "angry", "lonely", "ill", "cold", "glad", "sleepy", "worried"]
ADJECTIVES = ["big", "small", "old", "new", "shiny", "soft", "heavy", "round", "tiny", "broken", "warm", "wooden", "clean", "little", "strange"]
EMOJI = ["😀", "🎉", "🚀", "🌍", "🐱", "🐶", "🍎", "🔥", "⭐", "❤️", "👍", "🦊", "🌈", "🍕", "🎵", "☀️", "🌙", "🐸"]
ACCENTED = ["café", "naïve", "über", "jalapeño", "crème brûlée", "façade", "Zürich", "São Paulo", "smörgåsbord", "piñata", "résumé",
            "fiancée", "doppelgänger", "Ångström", "señor", "garçon", "déjà vu", "mañana", "Müller-Straße", "Łódź", "naïveté", "öl", "élan",
            "日本", "привет", "こんにちは", "你好", "γειά", "مرحبا", "한국"]
VERBS = ["run", "jump", "sing", "read", "write", "draw", "cook", "swim", "climb", "dance", "walk", "sleep", "play", "build", "paint",
         "listen", "watch", "help", "carry", "open", "close", "find", "bring", "wash", "throw", "catch", "think", "learn", "travel", "dream"]
CATEGORIES = {
    "animals": sorted(ANIMALS), "colours": COLOURS, "fruits": FRUITS, "vegetables": VEGETABLES, "sports": SPORTS, "countries": [c for c in COUNTRIES if not c.startswith("the ")],
    "musical instruments": INSTRUMENTS, "shapes": SHAPES, "flowers": FLOWERS, "trees": TREES, "jobs": JOBS, "days of the week": DAYS, "months": MONTHS,
    "pets": PETS, "birds": [a for a, v in ANIMALS.items() if v[2] == "bird"], "insects": [a for a, v in ANIMALS.items() if v[2] == "insect"],
    "foods": FOODS, "planets": ["Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"], "cities": CITIES,
}
WORDS = sorted({w for w in [*OBJECTS, *FRUITS, *VEGETABLES, *SPORTS, *ANIMALS, *COLOURS, *FLOWERS, *TREES, *JOBS, *WEATHER, *MOODS, *ADJECTIVES,
                *VERBS, *PLURALS, *INSTRUMENTS, *SHAPES, *(a for p in OPPOSITES for a in p), *DEFINITIONS] if " " not in w and "-" not in w})
