"""Finds the commands in a document and holds each to the program that it is for: make, manage.py, docker compose,
Python. It runs none of them.

Looked at are blocks of shell and code within the text. In the text a command may be cut short, as in
`manage.py check_data`; in a block it must be whole.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from django.core.management import get_commands, load_command_class
from django.core.management.base import CommandError

from backend.settings.config import Config

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
# What make may be told: its own variables, the settings, and those that the README's table has beside them.
VARIABLES = set(re.findall(r"\$[({](\w+)[)}]", MAKEFILE)) | {name.upper() for name in Config.model_fields}
VARIABLES |= {name for row in re.findall(r"^\| (`[A-Z].*?) \|", (ROOT / "README.md").read_text(), re.M)
              for name in re.findall(r"`(\w+)`", row)}  # fmt: skip
SERVICES = set(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
# The options of docker compose that the documents use, by command; those with "=" take a value.
COMPOSE = {
    "build": "--pull --no-cache",
    "config": "--quiet",
    "cp": "",
    "exec": "-T --user=",
    "logs": "--no-log-prefix --since= --timestamps --follow --tail=",
    "ps": "--all",
    "pull": "--ignore-buildable",
    "restart": "--no-deps",
    "run": "--rm --no-deps -T",
    "stop": "",
    "up": "--detach -d --build --no-deps --force-recreate --scale= --wait",
}
BLOCK = re.compile(r"^([ ]*)```(\w*)\n(.*?)^\1```$|`([^`]+)`", re.S | re.M)
SHELL = {"sh", "bash"}
# Where a shell begins a command: at the start, after an operator or a word that opens one; assignments may come first.
BEGIN = r"(?:^|[;&|({]|\bdo\b|\bthen\b)\s*(?:[A-Z_]+=\S+\s+)*"
PROGRAMS = re.compile(BEGIN + r"(make|manage|(?:python3? )?manage\.py|docker compose|python3?)(?= |$)")
# What stands for a value that a parser looks at; any other word in capitals is taken as it is.
PLACEHOLDERS = {"D": "2026-01-05", "DAY": "2026-01-05", "ROLE": "viewer", "<time>": "2026-01-05", "<number>": "0001"}


@dataclass(frozen=True)
class Line:
    """A line of shell; code within a sentence is not ``whole``: it may name a command without its arguments."""

    text: str
    whole: bool


def lines(text: str) -> Iterator[Line]:
    for _, language, block, inline in BLOCK.findall(text):
        if inline:
            yield Line(" ".join(inline.split()), whole=False)
        elif language in SHELL:
            yield from (Line(line.strip(), whole=True) for line in block.replace("\\\n", " ").splitlines())


def words(tail: str) -> list[str]:
    """The arguments up to whatever ends the command, with placeholders made into values and brackets left out."""
    for name in re.findall(r"<[^<>]*>", tail):
        tail = tail.replace(name, PLACEHOLDERS.get(name, "NAME"))
    lexer = shlex.shlex(tail, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    found: list[str] = []
    for word in lexer:
        if set(word) <= set("();<>|&}"):
            break
        if word != "...":
            found.append(PLACEHOLDERS.get(word, word.strip("[]").removesuffix("...")))
        elif found and found[-1].startswith("--"):
            found.append("SOMETHING")
    return [word for word in found if word]


def commands(line: Line) -> Iterator[tuple[str, list[str]]]:
    for found in PROGRAMS.finditer(line.text):
        tail = line.text[found.end() :]
        if not (found[1].startswith("python") and tail.startswith(" -c")):  # a program, perhaps of many lines
            yield found[1].removeprefix("python3 ").removeprefix("python "), words(tail)


def parsers(parser: argparse.ArgumentParser, arguments: list[str]) -> list[argparse.ArgumentParser]:
    """The parser and those of the subcommands that the arguments name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = [action.choices[word] for word in arguments if word in action.choices][:1]
            return [parser, *(one for each in below for one in parsers(each, arguments))]
    return [parser]


def options_of(chain: list[argparse.ArgumentParser]) -> set[str]:
    return {option for parser in chain for action in parser._actions for option in action.option_strings}


def subcommands(parser: argparse.ArgumentParser) -> set[str]:
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name for action in nested for name in action.choices}


def subcommands_of(name: str) -> set[str]:
    home = get_commands().get(name)
    return subcommands(load_command_class(home, name).create_parser("manage.py", name)) if home else set()


@cache
def every_option() -> set[str]:
    """Every option of our own commands, and those that the documents name of docker compose."""
    found = {option.rstrip("=") for options in COMPOSE.values() for option in options.split()}
    for name, home in get_commands().items():
        if home == "backend.tradingbot":
            parser = load_command_class(home, name).create_parser("manage.py", name)
            found |= options_of([one for sub in ("", *subcommands(parser)) for one in parsers(parser, [sub])])
    return found


def of_manage(arguments: list[str], whole: bool) -> Iterator[str]:
    if not arguments or arguments[0].startswith("$"):
        return
    name, *rest = arguments
    home = get_commands().get(name)
    if home is None:
        yield f"manage.py has no command {name}"
        return
    command = load_command_class(home, name) if isinstance(home, str) else home
    parser = command.create_parser("manage.py", name)
    below = subcommands(parser)
    if rest and below and rest[0] not in below | {"--help"}:
        yield f"manage.py {name} has no subcommand {rest[0]}"
        return
    known = options_of(parsers(parser, rest))
    unknown = [word for word in rest if word.startswith("--") and word.partition("=")[0] not in known]
    yield from (f"manage.py {name} has no option {word}" for word in unknown)
    if unknown or not (whole or rest):
        return
    try:
        parser.parse_args(rest)
    except (CommandError, SystemExit) as error:
        if whole or not re.search(r"(?:is|are) required", str(error)):
            yield f"manage.py {name} does not take {shlex.join(rest)}: {error}"


def of_make(arguments: list[str], whole: bool) -> Iterator[str]:
    for word in arguments:
        variable, given, value = word.partition("=")
        if given and variable not in VARIABLES:
            yield f"make knows no variable {variable}"
        elif given and variable == "CMD":
            yield from of_manage(shlex.split(value), whole)
        elif not given and not word.startswith("-") and word not in TARGETS:
            yield f"make has no target {word}"


def of_compose(arguments: list[str], whole: bool) -> Iterator[str]:
    if not arguments:
        return
    name, *rest = arguments
    if name not in COMPOSE:
        yield f"docker compose {name} is not among the commands that are known here"
        return
    options, services = COMPOSE[name].split(), []
    while rest:
        word = rest.pop(0)
        if word.startswith("-") and f"{word}=" in options:
            value = rest.pop(0)
            services += [value.partition("=")[0]] if word == "--scale" else []
        elif word.startswith("-"):
            yield from () if word in options else (f"docker compose {name} has no option {word}",)
        elif name == "cp":
            services += [place.partition(":")[0] for place in [word, *rest] if ":" in place]
            yield from () if services else (f"docker compose cp names no service: {word}",)
            break
        elif not word.startswith("$"):
            services.append(word)
            if name in ("exec", "run"):
                break
    yield from (f"docker-compose.yml has no service {one}" for one in services if one not in SERVICES)
    if rest[:2] in (["python", "manage.py"], ["python3", "manage.py"]):
        yield from of_manage(rest[2:], whole)


def of_python(arguments: list[str]) -> Iterator[str]:
    match arguments:
        case ["-m", module, *_]:
            try:
                found = importlib.util.find_spec(module)
            except ModuleNotFoundError:
                found = None
            if found is None:
                yield f"Python finds no module {module}"
        case [path, *_] if path.endswith(".py") and not re.search(r"[$/]tmp|^\$", path) and not (ROOT / path).exists():
            yield f"there is no {path}"


def faults(text: str) -> list[str]:
    found: list[str] = []
    for line in lines(text):
        if not line.whole and line.text.startswith("--"):
            option = re.split(r"[ =]", line.text)[0]
            found += [] if option in every_option() else [f"no command has the option {option}"]
        try:
            typed = list(commands(line))
        except ValueError as error:
            found.append(f"{line.text}: {error}")
            continue
        for program, arguments in typed:
            if program == "make":
                found += of_make(arguments, line.whole)
            elif program == "docker compose":
                found += of_compose(arguments, line.whole)
            elif program.startswith("manage"):
                found += of_manage(arguments, line.whole)
            else:
                found += of_python(arguments)
    return found


def unread(text: str) -> list[str]:
    """Commands in a block whose language nobody reads."""
    blocks = [block for _, language, block, _ in BLOCK.findall(text) if block and language not in SHELL]
    typed = re.compile(r"^\s*(?:make [a-z]|docker compose |(?:python3? )?manage\.py |python3? -m ).*", re.M)
    return [line.strip() for block in blocks for line in typed.findall(block)]
