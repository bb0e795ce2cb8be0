import pytest
import yaml

from maskwright.errors import ConfigError
from maskwright.lab.compare import to_yaml
from maskwright.lab.config import parse
from maskwright.lab.settings import PRESETS, load, merge, read_preset

MINIMAL = {"policies": {"dynamic": {}}, "regimes": [{"name": "a", "tokens": 10, "steps": 1}]}


def write(path, value):
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value), "utf-8")
    return path


# -- where settings come from ---------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole_and_their_policies_build(name):
    experiment = load(preset=name)
    built = {key: policy.masking() for key, policy in experiment.policies.items()}
    assert "dynamic" in {str(masking.refresh) for masking in built.values()}
    assert experiment.reference in built
    assert len(experiment.seeds) >= 3


def test_quick_is_used_when_nothing_is_named():
    assert load() == load(preset="quick")


def test_a_file_changes_a_preset_and_set_changes_both(tmp_path):
    file = write(tmp_path / "e.yaml", {"training": {"batch_size": 3, "learning_rate": 0.5}})
    experiment = load(preset="quick", file=file, changes=["training.learning_rate=1e-3"])
    assert experiment.training.learning_rate == 1e-3  # --set over file
    assert experiment.training.batch_size == 3  # file over preset
    assert experiment.training.warmup_steps == read_preset("quick")["training"]["warmup_steps"]


def test_the_last_of_two_changes_wins():
    assert load(changes=["workers=3", "workers=1"]).workers == 1


def test_a_file_alone_starts_from_no_preset(tmp_path):
    experiment = load(file=write(tmp_path / "e.yaml", MINIMAL))
    assert list(experiment.policies) == ["dynamic"]
    assert experiment.warmup is None


def test_an_experiment_comes_back_from_its_own_file(tmp_path):
    for name in PRESETS:
        experiment = load(preset=name)
        assert load(file=write(tmp_path / "e.yaml", to_yaml(experiment))) == experiment


@pytest.mark.parametrize(
    "text, value", [("1e-3", 1e-3), ("2E-4", 2e-4), ("0.25", 0.25), ("1", 1.0), ("1.5e-2", 0.015)]
)
def test_a_number_is_a_number_in_set_and_in_a_file(tmp_path, text, value):
    assert load(changes=[f"training.learning_rate={text}"]).training.learning_rate == value
    file = write(tmp_path / "e.yaml", f"training: {{learning_rate: {text}}}")
    assert load(preset="quick", file=file).training.learning_rate == value


def test_the_value_of_set_is_yaml():
    experiment = load(
        changes=["seeds=[4, 5]", "evaluation.tokens=null", "policies.static.exact=true"]
    )
    assert experiment.seeds == (4, 5)
    assert experiment.evaluation.tokens is None
    assert experiment.policies["static"].exact is True


def test_a_member_of_a_list_goes_by_name_or_number():
    experiment = load(changes=["regimes.repeated.epochs=5", "regimes.0.tokens=7"])
    assert [regime.epochs for regime in experiment.regimes] == [1, 5]
    assert experiment.regimes[0].tokens == 7
    with pytest.raises(ConfigError, match=r"'repeatd'\. Did you mean 'repeated'"):
        load(changes=["regimes.repeatd.epochs=5"])


def test_a_list_replaces_a_list_and_nothing_given_is_changed():
    old = {"a": [1, 2], "b": {"c": 1}}
    assert merge(old, {"a": [3], "b": {"d": 2}}) == {"a": [3], "b": {"c": 1, "d": 2}}
    assert old == {"a": [1, 2], "b": {"c": 1}}


def test_policies_keeps_some_and_moves_the_reference():
    experiment = load(policies=["static", "rotating"])
    assert list(experiment.policies) == ["static", "rotating"]
    assert experiment.reference == "static"
    assert load(policies=["static", "dynamic"]).reference == "dynamic"


def test_seeds_counts():
    assert load(seeds=2).seeds == (0, 1)
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        load(seeds=0)


# -- what is wrong, and where ----------------------------------------------------------------


@pytest.mark.parametrize(
    "change, meant",
    [
        ("trainng={}", "'training'"),
        ("training.learnng_rate=1", "'training.learning_rate'"),
        ("learning_rate=1", "'training.learning_rate'"),
        ("policies.static.rte=0.1", "'policies.static.rate'"),
        ("policies.static.rate={strt: 0.1, end: 0.2}", "'policies.static.rate.start'"),
        ("warmup.policy.refesh=static", "'warmup.policy.refresh'"),
        ("regimes.fresh.epoch=2", "'regimes.0.epochs'"),
        ("regimes.1.token=2", "'regimes.1.tokens'"),
        ("evaluation.mask=random-40", "'evaluation.masks'"),
    ],
)
def test_an_unknown_key_gets_a_suggestion(change, meant):
    with pytest.raises(ConfigError, match=f"Unknown setting .*Did you mean {meant}"):
        load(changes=[change])


@pytest.mark.parametrize(
    "change, key",
    [
        ("training.batch_size=many", "training.batch_size"),
        ("training.batch_size=0", "training.batch_size"),
        ("training.lr_scheduler=lin", "training.lr_scheduler"),
        ("policies.static.rate=often", "policies.static.rate"),
        ("policies.static.rate={start: 0.1, end: 2}", "policies.static.rate.end"),
        ("policies.static.rate=1.5", "policies.static"),
        ("policies.static.act={mask: 0.5}", "policies.static"),
        ("policies.static.act={msk: 1}", "policies.static"),
        ("policies.static=null", "policies.static"),
        ("policies=null", "policies"),
        ("data=3", "data"),
        ("seeds=3", "seeds"),
        ("seeds=[]", "seeds"),
        ("seeds=[-1]", "seeds.0"),
        ("regimes=[{name: a, tokens: 5}]", "regimes.0"),
        ("regimes=[{name: ../a, tokens: 5, steps: 1}]", "regimes.0.name"),
        ("evaluation.masks=random-99", "evaluation"),
    ],
)
def test_a_wrong_value_names_its_key_in_one_line(change, key):
    with pytest.raises(ConfigError) as caught:
        load(changes=[change])
    message = str(caught.value)
    assert message.startswith(f"{key}: ")
    assert "\n" not in message
    assert "(number)" not in message
    assert "RateSchedule" not in message


def test_every_wrong_key_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        load(changes=["workers=0", "policies.static.rte=1"])
    assert len(str(caught.value).splitlines()) == 2


def test_what_is_missing_is_named():
    with pytest.raises(ConfigError, match=r"regimes is missing\."):
        parse({"policies": {"dynamic": {}}})


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"reference": "dynamc"}, "Unknown reference policy 'dynamc'. Did you mean 'dynamic'"),
        ({"seeds": [1, 1]}, "must differ"),
        ({"policies": {"dynamic": {}, "../x": {}}}, "policies.../x: a policy is named"),
        ({"policies": {"dynamic": {"refresh": "dynamc"}}}, "Did you mean 'dynamic'"),
    ],
)
def test_settings_that_contradict_each_other(changes, message):
    with pytest.raises(ConfigError) as caught:
        parse(MINIMAL | changes)
    assert message in str(caught.value)


def test_unknown_preset_and_policy():
    with pytest.raises(ConfigError, match=r"preset 'quik'\. Did you mean 'quick'"):
        load(preset="quik")
    with pytest.raises(ConfigError, match=r"policy 'statc'\. Did you mean 'static'"):
        load(policies=["statc"])


@pytest.mark.parametrize(
    "content, message",
    [
        ("", "is empty"),
        ("- a\n- b\n", "must be a YAML mapping"),
        ("a: [1\nb: 2\n", "is not YAML: .*in line"),
        (b"\xff\xfe\x00a: 1", "not text in UTF-8"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_is_no_experiment(tmp_path, content, message):
    file = tmp_path / "e.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=message):
        load(file=file)


@pytest.mark.parametrize("change", ["workers", "=3", "workers=[1"])
def test_a_change_that_is_none(change):
    with pytest.raises(ConfigError, match="--set"):
        load(changes=[change])
