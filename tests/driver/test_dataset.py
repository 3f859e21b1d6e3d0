import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dyno_driver.errors import WrongUseError
from dyno_driver.prompts.prompt_set import Prompt, load_prompts

RECORD = {"id": "007", "question": "When?", "context": "On 7 February.", "answers": ["2016-02-07"], "title": "T"}

# Fails whatever asks the network, also a library that hides the failure.
NO_NETWORK = """
import os, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        print("asked the network:", event, arguments, flush=True)
        os._exit(66)
sys.addaudithook(refuse)
"""


def saved(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_all_rows_of_a_file(tmp_path: Path) -> None:
    """Without a number, all of a file are asked and ten of a set; what is asked is said."""
    path = saved(tmp_path, "p.jsonl", "".join(json.dumps({"question": f"q{n}"}) + "\n" for n in range(25)))
    assert len(load_prompts(path, None).prompts) == 25
    assert load_prompts(path, None).said == f"Prompts: all 25 prompts of {path}; sent as 'Question: … Answer:'."
    assert load_prompts(path, 3).said.startswith(f"Prompts: the first 3 prompts of {path}; ")
    assert len(load_prompts("science", None).prompts) == 10
    assert load_prompts("science", 500).said.startswith("Prompts: science has 20 prompts, not 500: all are asked; ")


def test_a_column_or_a_template(tmp_path: Path) -> None:
    """The text is taken as it is from the named column, or put into the template; a missing column is named."""
    rows = [{"text": "a {b}", "lang": "de", "question": "?"}, {"text": "c", "lang": "fr", "question": "!"}]
    path = saved(tmp_path, "p.json", json.dumps(rows))
    assert [prompt.prompt for prompt in load_prompts(path, None, column="text").prompts] == ["a {b}", "c"]
    told = load_prompts(path, None, template="In {lang}:\\n{text}")
    assert [prompt.prompt for prompt in told.prompts] == ["In de:\na {b}", "In fr:\nc"]
    assert told.prompts[0].question == "?"
    with pytest.raises(WrongUseError, match=r"--column: record 1 of .* has no 'body' \(its columns: text, lang"):
        load_prompts(path, None, column="body")
    with pytest.raises(WrongUseError, match=r"--template: record 1 of .* has no 'body'"):
        load_prompts(path, None, template="{body}")
    with pytest.raises(WrongUseError, match="exclude each other"):
        load_prompts(path, None, column="text", template="{text}")


def test_science_covers_its_domains() -> None:
    """The set that ships has four questions in each of five domains, the domains in turn."""
    prompts = load_prompts("science", 1000).prompts
    assert len(prompts) == 20
    domains = [prompt.domain for prompt in prompts]
    assert domains[:5] == [
        "quantum mechanics",
        "photosynthesis",
        "machine learning",
        "genetics",
        "thermodynamics",
    ]
    assert domains == domains[:5] * 4


@pytest.mark.parametrize("prompt", load_prompts("science", 1000).prompts, ids=lambda prompt: prompt.prompt_id)
def test_science_can_be_scored(prompt: Prompt) -> None:
    """Each passage has 60 to 140 words and contains every reference answer; the answers are short."""
    assert prompt.context is not None
    assert 60 <= len(prompt.context.split()) <= 140
    assert prompt.reference_answers
    for answer in prompt.reference_answers:
        assert answer in prompt.context
        assert len(answer.split()) <= 8


def test_the_published_prompt() -> None:
    """A question on a passage is put as the published benchmark put it, to the letter."""
    [prompt] = load_prompts("science", 1).prompts
    assert prompt.prompt == f"Context: {prompt.context}\n\nQuestion: {prompt.question}\n\nAnswer:"


@pytest.mark.parametrize("shape", ["json", "data.json", "jsonl", "lines.json", "csv", "parquet"])
def test_the_same_records_from_every_format(tmp_path: Path, shape: str) -> None:
    """A record is the same from each format: ids keep their zeros, dates stay text, and the order is kept."""
    second = {
        "id": "008",
        "question": "NA",
        "context": 'null, "quoted"\nä \u2028 line',
        "answers": ["NA"],
        "title": "T",
    }
    records: list[dict[str, Any]] = [RECORD, second]
    path = tmp_path / f"prompts.{shape}"
    if shape == "csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(RECORD))
            writer.writeheader()
            writer.writerows(record | {"answers": record["answers"][0]} for record in records)
    elif shape == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    elif shape in ("jsonl", "lines.json"):
        path.write_text(
            "".join(json.dumps(record, ensure_ascii=False) + "\n\n" for record in records), encoding="utf-8"
        )
    else:
        path.write_text(json.dumps(records if shape == "json" else {"data": records}), encoding="utf-8")
    assert load_prompts(str(path), 10).prompts == (
        Prompt(
            "007",
            "Context: On 7 February.\n\nQuestion: When?\n\nAnswer:",
            "When?",
            "On 7 February.",
            "T",
            None,
            ("2016-02-07",),
        ),
        Prompt(
            "008",
            f"Context: {second['context']}\n\nQuestion: NA\n\nAnswer:",
            "NA",
            str(second["context"]),
            "T",
            None,
            ("NA",),
        ),
    )
    assert len(load_prompts(str(path), 1).prompts) == 1


@pytest.mark.parametrize("version", ["1.1", "v2.0"])
def test_squads_own_file(tmp_path: Path, version: str) -> None:
    """SQuAD's nested JSON is read in its order; a question of 2.0 without an answer has no references."""
    asked = [
        {
            "id": "a",
            "question": "Who?",
            "answers": [{"text": "Rollo", "answer_start": 1}, {"text": "Rollo", "answer_start": 9}],
        },
        {"id": "b", "question": "Why?", "answers": [], "is_impossible": True, "plausible_answers": [{"text": "No"}]},
    ]
    article = {"title": "Normans", "paragraphs": [{"context": "C.", "qas": asked[: 1 if version == "1.1" else 2]}]}
    path = saved(tmp_path, "squad.json", json.dumps({"version": version, "data": [article]}))
    prompts = load_prompts(path, 10).prompts
    assert prompts[0] == Prompt(
        "a", "Context: C.\n\nQuestion: Who?\n\nAnswer:", "Who?", "C.", "Normans", None, ("Rollo",)
    )
    assert [prompt.reference_answers for prompt in prompts[1:]] == ([] if version == "1.1" else [()])


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("four", ("four",)),
        (["four", "4", "four"], ("four", "4")),
        ({"text": ["four", "4"], "answer_start": [1, 2]}, ("four", "4")),
        ([{"text": "four"}, {"text": "4"}], ("four", "4")),
        ('["four", "4"]', ("four", "4")),
        ("[four]", ("[four]",)),
        (4, ("4",)),
        ([], ()),
        (None, ()),
    ],
)
def test_references_in_every_dress(tmp_path: Path, answers: Any, expected: tuple[str, ...]) -> None:
    """Reference answers are found as text, number, list, SQuAD's records, or JSON within a cell."""
    path = saved(tmp_path, "p.json", json.dumps([{"question": "2+2?", "answers": answers}]))
    [prompt] = load_prompts(path, 1).prompts
    assert prompt.reference_answers == expected
    assert prompt.prompt == "Question: 2+2?\n\nAnswer:"


def test_a_prompt_is_sent_as_it_is(tmp_path: Path) -> None:
    """A record's own 'prompt' is sent to the letter; without an id, records are numbered."""
    records = [{"prompt": " Say hi. \n"}, {"prompt": "b", "question": "q", "context": "c"}]
    prompts = load_prompts(saved(tmp_path, "p.json", json.dumps(records)), 5).prompts
    assert [(prompt.prompt_id, prompt.prompt) for prompt in prompts] == [("1", " Say hi. \n"), ("2", "b")]


def test_a_lone_surrogate_is_mended(tmp_path: Path) -> None:
    """A text that JSON can spell but UTF-8 can't hold is replaced on reading, so what is stored is what was sent."""
    [prompt] = load_prompts(saved(tmp_path, "p.json", '[{"prompt": "a\\ud800b"}]'), 1).prompts
    assert prompt.prompt == "a?b"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.json", "[]", "has no questions"),
        ("p.json", "", "has no questions"),
        ("p.jsonl", "\n\n", "has no questions"),
        ("p.csv", "", "has no questions"),
        ("p.csv", "question,context\n", "has no questions"),
        ("p.json", '{"version": "1.1", "data": []}', "has no questions"),
        ("p.json", '[{"text": "x", "label": 1}]', "record 1 has no question"),
        ("p.csv", "text,label\nx,1\n", "(its columns: text, label)"),
        ("p.jsonl", '{"question": "a"}\n{"question": " "}\n', "record 2 has no question"),
        ("p.json", '{"question": "a"', "not JSON"),
        ("p.json", '["a"]', "record 1 must be an object"),
        ("p.json", "7", "must be a list of records, or have SQuAD's shape"),
        ("p.json", '{"data": [{"title": "t", "paragraphs": [{"qas": [{}]}]}]}', "article 1 doesn't have SQuAD's shape"),
        ("p.jsonl", '{"question": "a"}\n{"question":\n', "line 2 is not JSON"),
        ("p.jsonl", "[1]\n", "line 1 must be an object"),
        ("p.json", '[{"question": "a", "id": 1}, {"question": "b", "id": "1"}]', "two records have the id '1'"),
        ("p.json", '[{"question": "a", "id": "' + "x" * 201 + '"}]', "an id of over 200 characters"),
        ("p.json", '[{"question": "a", "answers": [["b"]]}]', "answers of an unknown shape"),
        ("p.csv", "question,question\na,b\n", "the column 'question' is there twice"),
        ("p.csv", 'question\n"a\n', "not readable as csv"),
        ("p.parquet", "no parquet", "not readable as parquet"),
        ("p.txt", "question", "a file must end in .json"),
    ],
)
def test_a_file_that_wont_do(tmp_path: Path, name: str, content: str, says: str) -> None:
    """For a file without questions, or whose content doesn't fit its name, one line names it and what is wrong."""
    path = saved(tmp_path, name, content)
    with pytest.raises(WrongUseError) as raised:
        load_prompts(path, 10)
    message = str(raised.value)
    assert path in message
    assert says in message
    assert "\n" not in message


def test_a_parquet_file_without_rows(tmp_path: Path) -> None:
    """A file with columns but no rows has no questions."""
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), path)
    with pytest.raises(WrongUseError, match="has no questions"):
        load_prompts(str(path), 1)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """A file in another encoding is one line, not a traceback."""
    path = tmp_path / "p.json"
    path.write_bytes('[{"question": "Wärme"}]'.encode("latin-1"))
    with pytest.raises(WrongUseError, match="can't be read"):
        load_prompts(str(path), 1)


@pytest.mark.parametrize("spec", ["missing.json", "no/such/missing.csv", "./missing", "sciense"])
def test_a_missing_file_names_the_ready_set(spec: str) -> None:
    """For a path that doesn't exist, or a misspelt set, the error says so and names `science`."""
    with pytest.raises(WrongUseError, match=r"(no such file|no such set or file).*science"):
        load_prompts(spec, 1)


def test_science_and_files_ask_no_network(tmp_path: Path) -> None:
    """With every socket call refused, `science` and each kind of file load all the same."""
    files = [
        saved(tmp_path, "p.json", '[{"question": "a"}]'),
        saved(tmp_path, "p.jsonl", '{"question": "a"}\n'),
        saved(tmp_path, "p.csv", "question\na\n"),
    ]
    pq.write_table(pa.table({"question": ["a"]}), tmp_path / "p.parquet")
    program = NO_NETWORK + (
        "from dyno_driver.prompts.prompt_set import load_prompts\n"
        "for spec in sys.argv[1:]: print(len(load_prompts(spec, 1).prompts))"
    )
    specs = ["science", *files, str(tmp_path / "p.parquet")]
    done = subprocess.run([sys.executable, "-c", program, *specs], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["1"] * 5, "")
