"""Labelled text: cleaned, divided and drawn by the texts alone; and every way it can be wrong."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.data.labelled import TEST_SHARE, labelled
from maskwright.data.packages import PACKAGED, folder_of
from maskwright.data.tasks import load_labelled
from maskwright.errors import DataError

ROWS = [(f"text {number}", "even" if number % 2 == 0 else "odd") for number in range(200)]


def of(rows, **parts):
    return labelled("mine", "none", {"train": rows, **parts})


def write(path, text):
    path.write_text(text, "utf-8")
    return str(path)


# -- dividing and drawing -------------------------------------------------------------------


def test_a_quarter_is_for_tests_and_no_text_is_in_both():
    data = of(ROWS)
    assert data.labels == ("even", "odd")
    assert sorted([*data.train, *data.test]) == sorted(ROWS)
    assert abs(len(data.test) - TEST_SHARE * len(ROWS)) < 20
    assert data.notes == ()


@given(st.permutations(range(len(ROWS))), st.integers(0, 60))
def test_other_order_and_other_rows_move_no_example(order, dropped):
    whole, part = of(ROWS), of([ROWS[place] for place in order[dropped:]])
    assert set(part.test) <= set(whole.test)
    assert set(part.train) <= set(whole.train)
    if not dropped:
        assert part == whole


def test_a_larger_draw_contains_the_smaller():
    data = of(ROWS)
    small, large = data.draw(20, 10), data.draw(40, 30)
    assert (small.train, small.test) == (large.train[:20], large.test[:10])
    assert data.draw(None, None).train == data.draw(len(data.train), 10).train
    assert small.fingerprint != large.fingerprint
    assert small.fingerprint == of(list(reversed(ROWS))).draw(20, 10).fingerprint
    text, number = small.train[0]
    assert dict(ROWS)[text] == small.labels[number]


def test_the_majority_is_what_a_constant_answer_gets():
    rows = [(f"text {number}", "rare" if number % 10 == 0 else "common") for number in range(200)]
    examples = of(rows).draw(50, None)
    share = sum(label == 0 for _, label in examples.test) / len(examples.test)
    assert examples.labels[0] == "common"
    assert examples.majority == share > 0.7


def test_duplicates_and_contradictions():
    rows = [
        *ROWS,
        ("  text   0", "even"),  # the same up to white space
        ("text 1", "even"),  # another label than before
        (" ", "odd"),
    ]
    data = of(rows)
    texts = [text for text, _ in (*data.train, *data.test)]
    assert sorted(texts) == sorted(text for text, _ in ROWS if text != "text 1")
    assert data.notes == (
        "Empty texts dropped: 1.",
        "Duplicates dropped: 2.",
        "Texts with two labels dropped: 1.",
    )


def test_a_given_test_set_stays_and_leaves_the_training_text():
    data = of(ROWS, test=ROWS[:30])
    assert sorted(data.test) == sorted(ROWS[:30])
    assert sorted(data.train) == sorted(ROWS[30:])


# -- what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows, message",
    [
        ([], "no labelled text, and a task needs two classes"),
        ([(f"{n}", "a") for n in range(9)], "only the label 'a', .*label_column"),
        ([(f"{n}", f"l{n}") for n in range(9)], "9 different labels for 9 texts"),
    ],
)
def test_labels_that_are_no_classes(rows, message):
    with pytest.raises(DataError, match=message):
        of(rows)


def test_too_few_rows():
    data = of(ROWS)
    with pytest.raises(DataError, match=r"train examples, not 512\. Ask .* train: null"):
        data.draw(512, 10)
    with pytest.raises(DataError, match=r"test examples, not 512\. .* test: null"):
        data.draw(10, 512)
    rare = of([(text, "odd" if text == data.train[-1][0] else "even") for text, _ in ROWS])
    with pytest.raises(DataError, match="do not have two different labels"):
        rare.draw(5, None)


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.csv", "text,label\nx,1\ny,\n", r"a\.csv, line 3: column 'label' is empty"),
        ("a.csv", "text,label\nx,1\ny\n", r"line 3: column 'label' is empty"),
        ("a.csv", "body,label\nx,1\n", r"Unknown column 'text'.*text_column"),
        ("a.csv", "text,class\nx,1\n", r"Unknown column 'label'.*Choose one with label_column"),
        ("a.csv", 'text,label\n"x,1\n', "near line .: not CSV"),
        ("a.tsv", "text\tlabel\nx\n", r"a\.tsv, line 2: column 'label' is empty"),
        ("a.jsonl", '{"text": "x", "label": 0.5}\n', r"line 1: column 'label' holds a float"),
        ("a.jsonl", '{"text": 3, "label": 1}\n', r"line 1: column 'text' holds a int, not text"),
        ("a.jsonl", '{"text": "x", "label": 1}\n[1]\n', r'line 2 is a list.*"text": …, "label": …'),
        ("a.jsonl", '{"text": "x", "label": 1}\nx\n', r"line 2 is not JSON"),
        ("a.txt", "x", r"Unknown file type '\.txt'"),
    ],
)
def test_bad_files_say_where(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message):
        load_labelled(write(tmp_path / name, content))


def test_unknown_sources_and_parts(tmp_path):
    with pytest.raises(DataError, match="Did you mean 'movie-reviews'"):
        load_labelled("movie-review")
    with pytest.raises(DataError, match="Run: maskwright data get questions"):
        load_labelled("questions", cache_dir=tmp_path)
    with pytest.raises(DataError, match="has no parts"):
        load_labelled("questions", only="imdb")


# -- where it comes from --------------------------------------------------------------------


def test_the_kinds_of_table_agree(tmp_path):
    rows = [(f'say "{text}", é', label) for text, label in ROWS]
    quoted = [(text.replace('"', '""'), label) for text, label in rows]
    csv = "kind,body\n" + "".join(f'{label},"{text}"\n' for text, label in quoted)
    tsv = "body\tkind\n" + "".join(f"{text}\t{label}\n" for text, label in rows)
    lines = "".join(json.dumps({"body": text, "kind": label}) + "\n" for text, label in rows)
    contents = {"a.csv": csv, "a.tsv": tsv, "a.jsonl": lines}
    found = [
        load_labelled(
            write(tmp_path / name, content), text_column="body", label_column="kind"
        ).draw(None, None)
        for name, content in contents.items()
    ]
    assert found[0] == found[1] == found[2]
    assert len(found[0].train) + len(found[0].test) == len(rows)


def test_numbers_and_truth_values_are_names_of_classes(tmp_path):
    for values in ([0, 1], [True, False]):
        rows = [{"text": f"t{number}", "label": values[number % 2]} for number in range(40)]
        path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        assert load_labelled(path).labels == tuple(sorted(map(str, values)))


def test_a_hub_layout_with_a_test_set_and_one_whose_labels_are_withheld(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    shuffled = random.Random(0).sample(ROWS, len(ROWS))
    for folder, test_labels, test in (("open", True, "test"), ("closed", False, "validation")):
        place = tmp_path / folder
        place.mkdir()
        parts = {"train": shuffled[:100], "validation": shuffled[100:150], "test": shuffled[150:]}
        for split, rows in parts.items():
            hidden = split == "test" and not test_labels
            records = [
                {"text": text, "label": -1 if hidden else int(label == "odd")}
                for text, label in rows
            ]
            write(place / f"{split}.jsonl", "".join(json.dumps(r) + "\n" for r in records))
        data = load_labelled(f"hf:{place}")
        assert {text for text, _ in data.test} == {text for text, _ in parts[test]}
        assert len(data.train) == 100
        assert data.notes == (f"Test set: its {test} split.",)
        assert data.labels == ("0", "1")
    with pytest.raises(DataError, match="label_column"):
        load_labelled(f"hf:{tmp_path / 'open'}", label_column="kind")


REVIEWS = "text,label,source\n" + "".join(
    f'"A film, number {number}.<br /><br />It is {"good" if number % 2 else "bad"}.",'
    f"{number % 2},{'imdb' if number % 3 else 'rotten_tomatoes'}\n"
    for number in range(60)
)
QUESTIONS = "".join(
    f"{['HUM:ind', 'LOC:city', 'NUM:date', 'HUM:gr'][number % 4]} What is number {number} ?\n"
    for number in range(80)
)


def packaged(tmp_path, name, file, content):
    folder = folder_of(PACKAGED[name], tmp_path)
    folder.mkdir(parents=True)
    write(folder / file, content)


def test_movie_reviews_and_their_parts(tmp_path):
    packaged(tmp_path, "movie-reviews", "reviews.csv", REVIEWS)
    whole = load_labelled("movie-reviews", cache_dir=tmp_path)
    part = load_labelled("movie-reviews", only="rotten-tomatoes", cache_dir=tmp_path)
    assert whole.labels == part.labels == ("negative", "positive")
    assert (len(whole.train + whole.test), len(part.train + part.test)) == (60, 20)
    assert ("A film, number 5. It is good.", "positive") in whole.train + whole.test
    assert part.name == "movie-reviews (rotten-tomatoes)"
    assert set(part.test) <= set(whole.test)
    with pytest.raises(DataError, match="Did you mean 'imdb'"):
        load_labelled("movie-reviews", only="imbd", cache_dir=tmp_path)


def test_questions_are_of_coarse_classes(tmp_path):
    packaged(tmp_path, "questions", "questions.txt", QUESTIONS + QUESTIONS)
    data = load_labelled("questions", cache_dir=tmp_path)
    assert data.labels == ("human", "location", "number")
    assert dict(data.train + data.test)["What is number 3 ?"] == "human"
    assert data.notes == ("Duplicates dropped: 80.",)


def test_a_damaged_file_of_questions(tmp_path):
    packaged(tmp_path, "questions", "questions.txt", QUESTIONS + "WHAT:x is this\n")
    with pytest.raises(DataError, match=r"line 81: 'WHAT:x is this' is not .*fetch it again"):
        load_labelled("questions", cache_dir=tmp_path)
