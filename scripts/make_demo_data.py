#!/usr/bin/env python3
"""Writes models/tiny/demo/train.jsonl and valid.jsonl: questions about the weather, answered as a ship's log.

All text is original to this file (CC0). Only Python's standard library; the same seed gives the same bytes.
"""

import argparse
import itertools
import json
import random
from pathlib import Path

SEED = 7
TRAIN_ROWS, VALID_ROWS = 256, 32
PLACES = [
    "the north",
    "the south",
    "the east",
    "the west",
    "the harbour",
    "the island",
    "the river",
    "the town",
    "the hills",
    "London",
    "Bath",
    "Boston",
]
QUESTIONS = [
    "Will there be {weather} over {place}?",
    "Do you expect {weather} over {place} today?",
    "I hear of {weather} over {place}. What do you say?",
    "We must go out. Is there {weather} over {place}?",
]
COUPLETS = {
    "rain": "The rain comes down, the deck is wet,\nwe have not seen the worst of it yet.",
    "wind": "The wind is fair, the sail is wide,\nwe run for home upon the tide.",
    "snow": "The snow is white, the hand is cold,\nwe dream of fires and of gold.",
    "sun": "The sun is high, the sea is blue,\na merry day for all the crew.",
    "fog": "The land is lost, the air is grey,\nwe ring the bell and feel our way.",
    "thunder": "The sky is black, the night is long,\nwe hold the wheel and sing a song.",
}


def row(weather: str, place: str, question: str) -> dict[str, list[dict[str, str]]]:
    """One exchange: the log names the weather and the place of the question, then rhymes on that weather."""
    asked = question.format(weather=weather, place=place)
    answer = f"Ahoy! Ship's log: {weather} over {place}.\n{COUPLETS[weather]}\nAye, aye, Captain!"
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "models" / "tiny" / "demo")
    out = parser.parse_args().out
    combinations = list(itertools.product(COUPLETS, PLACES, QUESTIONS))
    random.Random(SEED).shuffle(combinations)
    rows = [row(*combination) for combination in combinations[: TRAIN_ROWS + VALID_ROWS]]
    out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", rows[:TRAIN_ROWS]), ("valid", rows[TRAIN_ROWS:])):
        text = "".join(json.dumps(r) + "\n" for r in part)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
