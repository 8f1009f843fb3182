"""How many held-out questions a checkpoint answers with each precision of nodemlx on the CPU, and how many answers are the same as with 'exact'.

    python compare_precisions.py ../../models/demo --questions 100
"""

import argparse
import json
import subprocess
from pathlib import Path

from tokenizers import Tokenizer

import chat
from evaluate import questions, score, table

PRECISIONS = ("exact", "fast", "fastest")

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--questions", type=int, default=100, help="for each category")
    args = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(args.checkpoint / "tokenizer.json"))
    asked = questions(args.questions, seed=99)
    prompts = json.dumps([tokenizer.encode(chat.prompt_of(c), add_special_tokens=False).ids for _, c in asked])
    program = Path(__file__).with_name("answers.mjs")
    given = {}
    for precision in PRECISIONS:
        command = ["node", str(program), str(args.checkpoint.resolve()), precision]
        given[precision] = json.loads(subprocess.run(command, input=prompts, capture_output=True, text=True, check=True).stdout)
    print(table({name: score(tokenizer, asked, answers) for name, answers in given.items()}))
    for name, answers in given.items():
        print(f"{name}: {sum(a == b for a, b in zip(answers, given['exact']))} of {len(asked)} answers are those of 'exact', token by token")
