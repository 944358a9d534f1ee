"""Every block of every page is run, parsed, or known to be no code."""

import ast
import json
import re
import shlex

import pytest
import yaml

from common import ROOT, settings
from scripts.reference_pages import of_flows, of_recipes, sources
from visits import matches, plain

RUN = {"sh", "console", "python"}
# mermaid is drawn in tests/browser/test_guide.py, and a toctree is Sphinx's
KNOWN = RUN | {"diff", "json", "yaml", "mermaid", "text", "{toctree}"}
# Metaflow's own, as far as the pages use them
METAFLOW = {"--config", "--config-value", "--run-id-file", "--tag", "--with", "--max-workers"}
# recipes that hand what they do not know to a flow, or to the AWS CLI
HANDS_ON = {"monitor", "sagemaker-monitor", "aws-ssh"}
TRUE_EVERYWHERE = {"--help", "--yes"}
SAGEMAKER = {
    "AWS_REGION": "us-east-1",
    "BUCKET": "bucket",
    "SAGEMAKER_ROLE": "arn:aws:iam::123456789012:role/rookery",
    "SERVING_IMAGE": "image",
}


def test_every_block_says_what_it_is(page):
    unknown = [block for block in page.blocks if block.language not in KNOWN]
    assert not unknown, "\n".join(
        f"{one.place}: a block of language {one.language!r}; known are {', '.join(sorted(KNOWN))}"
        for one in unknown
    )


def test_json_and_yaml_can_be_read(page, monkeypatch):
    for name, value in SAGEMAKER.items():
        monkeypatch.setenv(name, value)
    for block in page.blocks:
        try:
            if block.language == "json":
                json.loads(block.content)
            if block.language == "yaml":
                check_settings(block)
        except Exception as error:
            raise AssertionError(f"{block.place}: {error}") from error


def check_settings(block) -> None:
    """Check a config file, or sections of one: what they leave out is the example's."""
    content = yaml.safe_load(block.content)
    if block.file and not block.file.startswith("config/"):
        return
    if not {"project", "extends"} & content.keys():
        base = yaml.safe_load(settings.DEFAULT_CONFIG.read_text(encoding="utf-8"))
        whole = {"backend": "module", "dataset": "target"}
        for key, value in content.items():
            replaces = not isinstance(value, dict) or whole.get(key) in value
            base[key] = value if replaces else base.get(key, {}) | value
        content = base
    settings.parse(yaml.safe_dump(content), block.place)


def test_python_compiles(page):
    for block in page.blocks:
        if block.language == "python":
            compile(block.content, block.place, "exec")


def test_every_command_is_one_that_exists(page):
    problems = []
    for block in page.blocks:
        for command in block.commands():
            parts = split(command) or [[]]
            problems += [
                f"{block.place}: {shlex.join(p)}: {why}" for p in parts if (why := judge(p))
            ]
    assert not problems, "\n".join(problems)


def split(command: str) -> list[list[str]]:
    """Return the words of each part of a command, without comments and variables in front."""
    text = command.partition("<<")[0].replace("\\\n", " ")
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.commenters = ""
    lexer.whitespace_split = True
    words: list[list[str]] = [[]]
    for word in lexer:
        if word.startswith("#"):
            break
        if set(word) <= set("&|;"):
            words.append([])
        elif words[-1] or not re.match(r"[A-Z_]+=", word):
            words[-1].append(word)
    return [part for part in words if part]


def judge(words: list[str]) -> str:
    """Say what a part of a command gets wrong: recipe, script or option; nothing if it is right."""
    if words[0] in ("just", "./justw") and len(words) > 1:
        if words[1] == "rehearse" and len(words) > 2 and words[2] != "all":
            words = words[1:]
        name = words[1]
        if name not in RECIPES:
            return "there is no such recipe"
        return unknown(words[2:], recipe_options(name))
    if words[:2] == ["uv", "run"] and words[-1] != "-" and ".py" in " ".join(words):
        [file] = [word for word in words if word.endswith(".py")][:1]
        if not (ROOT / file).is_file():
            return "there is no such file"
        if file.startswith("src/pipelines/"):
            return unknown(words, flow_options(file.split("/")[-1].removesuffix(".py")))
    return ""


RECIPES = of_recipes.dumped_recipes()


def unknown(words: list[str], known: set[str] | None) -> str:
    """Name the options that are not known; where None is known, any may be."""
    given = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
    wrong = given - (known or given) - TRUE_EVERYWHERE
    return f"no such option: {', '.join(sorted(wrong))}" if wrong else ""


def recipe_options(name: str) -> set[str] | None:
    """Return the options of a recipe; None where it hands all to another program."""
    text = of_recipes.body_of(RECIPES[name])
    called = re.findall(r"src/(pipelines|scripts)/([\w/]+)\.py(?: ([a-z][\w-]*))?", text)
    if not called:
        return None
    room, file, word = called[-1]
    if room == "pipelines":
        return flow_options(file)
    rows = of_recipes.script_options(file, word)
    options = {option for row in rows for option in re.findall(r"--[a-z-]+", row[0])}
    return options or None if name not in HANDS_ON else None


def flow_options(flow: str) -> set[str]:
    """Return the parameters of a flow, and what Metaflow adds."""
    own = of_flows.parameters(sources.tree_of(f"pipelines/{flow}.py"), flow.capitalize(), flow)
    shared = of_flows.parameters(sources.tree_of("common/pipeline.py"), "Pipeline", None)
    return METAFLOW | {row[0].strip("`") for row in [*own, *shared]}


def test_what_other_tests_run_is_run_there(commands):
    for credit in [*commands.table["elsewhere"].values(), commands.table["circle"]]:
        file, _, name = credit["test"].partition("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        tests = {
            node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)
        }
        assert name in tests, credit["test"]
        assert credit["holds"] in text, credit


def test_no_entry_of_the_table_is_left_over(commands, pages):
    said = [
        part.strip()
        for page in pages.values()
        for block in page.blocks
        for command in block.commands()
        for part in plain(command).split("&&")
    ]
    table = commands.table
    patterns = [*table["not_run"], *table["elsewhere"], *table["codes"], table["once"]]
    unused = [one for one in patterns if not any(matches(one, command) for command in said)]
    assert not unused
    assert set(table["given"]) <= pages.keys()


@pytest.mark.integration
def test_commands_do_what_the_page_says(busy_page, clone):
    with clone.visit(busy_page.name) as visit:
        for block in busy_page.blocks:
            visit.run(block)
