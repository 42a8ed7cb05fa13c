"""Word pools of the story grammar: what its characters are called, own, eat, visit, count and say."""

from __future__ import annotations


def _pool(text: str) -> tuple[str, ...]:
    """Split a comma-separated list into its entries."""
    return tuple(entry.strip() for entry in text.split(","))


GIRLS = _pool(
    "Lily, Mia, Anna, Sue, Lucy, Sara, Molly, Ella, Rosie, Amy, Jane, Zoe, Daisy, Ruby, Nina, Tina, Clara, Maya, Emma, "
    "Bella, Poppy, Hazel, Nora, Ivy, Greta, Wendy, Fay, Luna, Penny, Betty"
)
BOYS = _pool(
    "Tom, Ben, Max, Sam, Tim, Jack, Leo, Finn, Billy, Oscar, Toby, Jake, Danny, Peter, Adam, Luke, Felix, Hugo, Eddie, "
    "Ralph, Spot, Bobby, Henry, Theo, Noah, Otto, Rex, Gus, Milo, Fred"
)
PETS = _pool(
    "Fluffy, Button, Pip, Biscuit, Patch, Snowy, Pebble, Pickle, Ginger, Muffin, Dot, Bean, Nutmeg, Twig, Maple, "
    "Socks, "
    "Cocoa, Sprout, Waffle, Bubbles"
)
KINDS = _pool("girl, boy, rabbit, fox, bear, mouse, kitten, puppy, squirrel, duckling, hedgehog, otter, pony, frog")
TRAITS = _pool(
    "brave, kind, shy, curious, clever, quiet, cheerful, gentle, playful, careful, stubborn, sleepy, funny, patient, "
    "honest, messy, polite, lively"
)
ELDERS = _pool("mom, dad, grandma, grandpa, aunt, uncle, big sister, big brother, teacher, neighbor")
STRANGERS = _pool(
    "the baker, the farmer, the old sailor, the postman, the gardener, the painter, the shoemaker, the miller, the "
    "doctor, the wise owl, the tall giant, the tiny elf, the clockmaker, the fisherman, the beekeeper, the queen"
)
COLORS = _pool(
    "red, blue, green, yellow, purple, orange, pink, silver, golden, white, black, brown, gray, striped, spotted, shiny"
)
MATERIALS = _pool("wood, glass, stone, paper, iron, wool, silk, clay, leather, brass, straw, ice")
THINGS = _pool(
    "kite, ball, hat, drum, doll, boat, scarf, bell, whistle, lantern, cup, book, umbrella, mitten, flute, puzzle, "
    "blanket, marble, bucket, mirror, feather, necklace, truck, teapot, balloon, compass, button, basket, robot, "
    "crown, "
    "ribbon, candle, pillow, shell, ring, spoon, top, map, coin, medal"
)
TOOLS = _pool("hammer, rake, rope, ladder, brush, shovel, net, broom, lamp, saw, wagon, needle, pan, paddle, axe, tent")
FOODS = _pool(
    "apple pie, honey, carrots, blueberries, cheese, pancakes, soup, cookies, plums, bread, nuts, jam, strawberries, "
    "popcorn, muffins, pears, noodles, pumpkin, cherries, milk, peaches, corn, melon, raisins"
)
PLACES = _pool(
    "park, forest, river, beach, farm, market, meadow, library, mill, harbor, village, garden, castle, lake, hill, "
    "playground, cave, school, bridge, bakery, zoo, orchard, barn, valley, lighthouse, station, island, tower"
)
SPOTS = _pool(
    "under the old oak, behind the tall fence, inside the hollow log, on the top shelf, beside the deep well, beneath "
    "the stone steps, behind the blue curtain, under the wooden bench, in the tall grass, next to the round rock, "
    "inside "
    "the rusty mailbox, below the apple tree, in the corner of the shed, behind the waterfall, under the little "
    "bridge, "
    "between two roses, on the window sill, in the empty nest, near the broken gate, inside the big pot, under the "
    "soft "
    "moss, behind the piano, in the bottom drawer, by the frozen pond"
)
HELPERS = _pool(
    "bird, turtle, bee, lamb, goat, beetle, crab, deer, snail, owl, donkey, fish, mole, lizard, swan, calf, "
    "butterfly, goose, hamster, ant"
)
BODY = _pool("ears, eyes, feet, wings, spots, stripes, paws, cheeks, toes, whiskers")
PLURALS = _pool(
    "ducks, clouds, snails, stars, boats, flowers, sheep, windows, frogs, lamps, pebbles, mushrooms, swans, trees, "
    "wagons, cows, eggs, ladders, bees, steps"
)
NUMBERS = _pool(
    "two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, fifteen, sixteen, "
    "seventeen, eighteen, nineteen, twenty"
)
SECRETS = _pool(
    "moonbeam, pumpkin seed, tick tock, silver sand, hocus, wiggle, rainbow, buttercup, snowflake, pepper, sunrise, "
    "whisper, thunder, jellybean, marigold, cinnamon, acorn, dandelion, zigzag, lullaby, firefly, stardust"
)
SYLLABLES = _pool("la, dum, hey, ho, fiddle, ding, dong, bim, bam, tra, doodle, pitter, patter, tum, rum, zim, zam, lo")
WEATHER = _pool("sunny, windy, rainy, snowy, foggy, cold, warm, cloudy, stormy, bright")
MOODS = _pool("happy, sad, excited, worried, tired, proud, scared, surprised, hungry, lonely, calm, nervous")
ACTIONS = _pool(
    "jump over puddles, climb trees, draw pictures, sing songs, chase leaves, build towers, tell jokes, dance, skip "
    "stones, look at clouds, play hide and seek, read stories, dig holes, ride a bike, roll down hills, feed the birds"
)
LESSONS = _pool(
    "to listen, to share, to be patient, to tell the truth, to say thank you, to ask for help, to keep a promise, to "
    "try "
    "again, to be kind, to take care of small things, to remember old friends, to look twice"
)
