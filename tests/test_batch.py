"""Batch files: what they say becomes a job, and every mistake in one is one sentence with file, key and a way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rig.bench.bench import Slot
from rig.bench.config import SlotTable, SupplyTable
from rig.bench.product import Limits, SerialRule, load_product
from rig.errors import UsageProblem
from rig.line.batch import read_batch
from rig.line.job import Job, Stage, job_from_dict, job_to_dict, limited
from rig.line.rules import Golden, Label, Retry, Rules
from rig.line.serials import check_serial

BASE = Job((), (Stage("convert", Path("x.bin")),))


def slot(**product: object) -> Slot:
    table = SlotTable(supply="p", channel=1, flash_port="/dev/x", product="ds-121")
    return Slot("A", table, SupplyTable(resource="x"), load_product("ds-121").model_copy(update=product))


def written(folder: Path, text: str, *, batch: str = "") -> Path:
    path = folder / "w48.toml"
    path.write_text(f'[batch]\nproduct = "ds-121"\n{batch}\n{text}')
    return path


def mistake(folder: Path, text: str, *, batch: str = "", at: Slot | None = None) -> str:
    with pytest.raises(UsageProblem) as caught:
        read_batch(written(folder, text, batch=batch)).job([at or slot()], BASE)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# -- what it says --------------------------------------------------------------------------------------------


FULL = """
name = "2026-w48"
plan = "convert"
image = "OpenBK7231N_QIO_1.18.300.bin"
provision = "home.toml"
flasher = "ltchiptool==4.15.0"
operator = "required"
first_article = true
park_image = "/images/park.bin"
[serials]
source = "list"
file = "serials.txt"
regex = 'SN\\d{6}'
[retry]
attempts = 2
codes = ["no-link"]
[quarantine]
blocked_in_a_row = 2
[streak]
failures_in_a_row = 3
[golden]
serial = "SN999999"
every = 50
[sampling]
every = 10
reboots = 20
[label]
template = "label.zpl"
command = ["./print", "--file={file}"]
[limits.steady_current]
maximum = 0.2
"""


def test_all_of_a_file_becomes_the_job(tmp_path: Path) -> None:
    (tmp_path / "label.zpl").write_text("{unit}")
    (tmp_path / "serials.txt").write_text("\ufeffSN000001\n# the second box\n\nSN000002  # dented\r\n")
    batch = read_batch(written(tmp_path, "", batch=FULL))
    assert batch.task == "convert"
    assert batch.table.image == tmp_path / "OpenBK7231N_QIO_1.18.300.bin"  # from the file's own folder
    job = batch.job([slot()], BASE)
    assert (job.batch, job.units, job.scanned) == ("2026-w48", ("SN000001", "SN000002"), False)
    assert (job.flasher, job.provision) == ("ltchiptool==4.15.0", tmp_path / "home.toml")
    assert job.serials == SerialRule(regex=r"SN\d{6}")
    rules = job.rules
    assert (rules.operator, rules.first_article, rules.already_passed) == ("required", True, "refuse")
    assert rules.park_image == Path("/images/park.bin")
    assert rules.retry == Retry(attempts=2, codes=["no-link"])
    assert rules.golden == Golden(serial="SN999999", every=50)
    assert (rules.quarantine.blocked_in_a_row, rules.streak.failures_in_a_row) == (2, 3)
    assert (rules.sampling.every, rules.sampling.reboots) == (10, 20)
    assert rules.label.template == tmp_path / "label.zpl"
    assert rules.label.command == [str(tmp_path / "print"), "--file={file}"]
    assert job.limits["steady_current"] == Limits(unit="A", maximum=0.2)


def test_the_least_file(tmp_path: Path) -> None:
    batch = read_batch(written(tmp_path, ""))
    job = batch.job([slot()], Job(("1", "2"), BASE.stages))
    assert (batch.task, job.batch, job.units, job.flasher) == (None, "w48", ("1", "2"), "native")
    assert job.rules == Rules(already_passed="refuse")


def test_limits_of_a_batch_replace_the_products_and_the_version_says_so() -> None:
    product = load_product("ds-121")
    own = Limits(unit="A", maximum=0.2)
    changed = limited(product, Job(("1",), (), batch="w48", limits={"steady_current": own}))
    assert changed.limits["steady_current"] == own
    assert changed.limits["rom_current"] == product.limits["rom_current"]
    assert changed.limits_version == f"{product.limits_version}+w48"
    assert limited(product, Job(("1",), (), batch="w48")) is product


def test_a_pattern_counts_and_closes_with_its_check_digit(tmp_path: Path) -> None:
    text = '[serials]\nsource = "pattern"\npattern = "SN{:06d}"\nfirst = 9\ncount = 3\n'
    assert read_batch(written(tmp_path, text)).units(slot().product) == ("SN000009", "SN000010", "SN000011")
    checked = (
        '[serials]\nsource = "pattern"\npattern = "SN{:06d}{check}"\nfirst = 1234\ncount = 2\n'
        "regex = 'SN(?P<checked>\\d{7})'\ncheck_digit = \"luhn\"\n"
    )
    assert read_batch(written(tmp_path, checked)).units(slot().product) == ("SN0012344", "SN0012351")


def test_the_product_says_what_a_serial_looks_like_unless_the_batch_does(tmp_path: Path) -> None:
    product = slot(serials=SerialRule(regex=r"P\d+", check_digit="luhn")).product

    def rule(more: str) -> SerialRule:
        return read_batch(written(tmp_path, f'[serials]\nsource = "scan"\n{more}')).rule(product)

    assert rule("") == product.serials
    assert rule("regex = 'B\\d+'") == SerialRule(regex=r"B\d+")  # the product's check digit was of its own expression
    assert rule('check_digit = "none"') == SerialRule(regex=r"P\d+")
    assert read_batch(written(tmp_path, "")).rule(product) == product.serials


def test_scanned_units_may_be_any_or_those_that_are_listed(tmp_path: Path) -> None:
    for more, units in (
        ("", ()),
        ('list = ["SN1", "SN2"]', ("SN1", "SN2")),
        ('pattern = "SN{}"\ncount = 3', ("SN1", "SN2", "SN3")),
    ):
        job = read_batch(written(tmp_path, f'[serials]\nsource = "scan"\n{more}')).job([slot()], BASE)
        assert (job.scanned, job.units) == (True, units)


def test_a_suite_of_ones_own_is_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "my-tests").mkdir()
    batch = read_batch(written(tmp_path, "", batch='plan = "my-tests"'))
    assert (batch.task, batch.suite) == ("suite", tmp_path / "my-tests")
    assert batch.job([slot()], BASE).suite == tmp_path / "my-tests"
    read_batch(written(tmp_path, "[limits.lux]\nminimum = 3", batch='plan = "my-tests"')).check([slot()])


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "text", "says"),
    [
        ("imge = 'x'", "", "unknown key 'batch.imge'; did you mean 'image'?"),
        ("", "[serial]\nsource = 'scan'", "unknown key 'serial'; did you mean 'serials'?"),
        ("", "[serials]\nsource = 'scans'", "'serials.source' is 'scans'"),
        ("", "[serials]\nsource = 'list'", "needs the units"),
        ("", "[serials]\nsource = 'list'\nlist = []", "no serial number in it"),
        ("", "[serials]\nsource = 'list'\nlist = ['SN1', 'SN1']", "SN1 is given twice"),
        ("", "[serials]\nsource = 'list'\nlist = ['SN1']\nregex = 'SN\\d\\d'", "SN1 is no serial number of these"),
        ("", "[serials]\nsource = 'list'\nlist = ['1']\nfile = 'f'", "give one of the two"),
        ("", "[serials]\nsource = 'list'\nfile = 'none.txt'", "no list of serial numbers at"),
        ("", "[serials]\nsource = 'pattern'\ncount = 3", "needs pattern"),
        ("", "[serials]\nsource = 'pattern'\npattern = 'SN{}'", "'pattern' and 'count' go together"),
        ("", "[serials]\nsource = 'pattern'\npattern = 'SN'\ncount = 3", "no pattern"),
        ("", "[serials]\nsource = 'pattern'\npattern = 'SN{0.real}'\ncount = 3", "no pattern"),
        ("", "[serials]\nsource = 'pattern'\npattern = 'SN{:>999999999d}'\ncount = 3", "no pattern"),
        (
            "",
            "[serials]\nsource = 'pattern'\npattern = 'SN{}{check}'\ncount = 3\ncheck_digit = 'luhn'",
            "(?P<checked>",
        ),
        ("", "[serials]\nsource = 'pattern'\npattern = 'SN{}'\ncount = 999999", "'serials.count' is 999999"),
        ("", "[serials]\nsource = 'scan'\nregex = 'SN('", "not a regular expression"),
        ("", "[serials]\nsource = 'scan'\ncheck_digit = 'mod10'", "'serials.check_digit' is 'mod10'"),
        ("", "[retry]\nattempts = 2\ncodes = ['no-lnk']", "no failure code 'no-lnk'; did you mean 'no-link'?"),
        ("", "[retry]\nattempts = 2", "[retry] needs both"),
        ("", "[retry]\ncodes = ['no-link']", "[retry] needs both"),
        ("", "[retry]\nattempts = 0", "'retry.attempts' is 0"),
        ("", "[serials]\nsource = 'list'\nlist = ['G']\n[golden]\nserial = 'G'", "'golden.serial' G is a unit"),
        ("", "[golden]\nserial = ' G'", "'golden.serial'"),
        ("", "[label]\ntemplate = 'none.zpl'", "[label] no label's template at"),
        ("", "[limits.steady_curent]\nmaximum = 1", "did you mean 'steady_current'?"),
        ("", "[limits.steady_current]\nmaxmum = 1", "did you mean 'maximum'?"),
        ("plan = 'burnin'", "", "'batch.plan' is 'burnin'"),
        ("plan = 'verify'\nthen = 'x.bin'", "", 'only for plan = "recover"'),
        ("plan = 'verify'\nreboots = 3", "", 'only for plan = "burn-in"'),
        ("already_passed = 'ask'", "", "'batch.already_passed' is 'ask'"),
        ("name = ''", "", "'batch.name' is ''"),
    ],
)
def test_a_mistake_is_one_sentence(batch: str, text: str, says: str, tmp_path: Path) -> None:
    sentence = mistake(tmp_path, text, batch=batch)
    assert says in sentence
    assert str(tmp_path) in sentence  # which file


def test_another_product_than_the_slots(tmp_path: Path) -> None:
    assert "'batch.product' is 'ds-121', and slot A is for 'ds-122'" in mistake(tmp_path, "", at=slot(name="ds-122"))


def test_no_file_no_toml_no_product(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no batch file at"):
        read_batch(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[batch")
    with pytest.raises(UsageProblem, match="not valid TOML"):
        read_batch(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_text("[batch]\nname = 'x'")
    with pytest.raises(UsageProblem, match=r"'batch\.product' is missing"):
        read_batch(tmp_path / "bad.toml")


_VALUES = st.one_of(
    st.text(max_size=8),
    st.integers(-5, 300),
    st.booleans(),
    st.floats(allow_nan=False),
    st.lists(st.text(max_size=4)),
)
_KEYS = {
    "batch": ["name", "product", "plan", "image", "then", "reboots", "operator", "first_article", "nonsense"],
    "serials": ["source", "list", "file", "pattern", "first", "count", "regex", "check_digit"],
    "retry": ["attempts", "codes", "other_slot"],
    "golden": ["serial", "every"],
    "label": ["template", "command"],
}
_TABLES = st.fixed_dictionaries(
    {}, optional={name: st.dictionaries(st.sampled_from(keys), _VALUES, max_size=4) for name, keys in _KEYS.items()}
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(_TABLES)
def test_no_file_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, tables: dict[str, dict[str, object]]
) -> None:
    lines = []
    for name, table in {"batch": {}, **tables}.items():
        lines.append(f"[{name}]")
        values = {"product": "ds-121"} | table if name == "batch" else table
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("\n".join(lines))
    sentence, units = _outcome(path)
    assert "\n" not in sentence
    assert len(set(units)) == len(units)


def _outcome(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        job = read_batch(path).job([slot()], BASE)
    except UsageProblem as problem:
        return str(problem), ()
    for unit in job.units:
        check_serial(job.serials, unit)
    return "", job.units


# -- the job on record ---------------------------------------------------------------------------------------


_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_JOBS = st.builds(
    Job,
    units=st.lists(_TEXT, unique=True, max_size=4).map(tuple),
    stages=st.lists(
        st.builds(
            Stage,
            task=st.sampled_from(["convert", "recover", "restore", "verify", "burn-in", "suite"]),
            image=st.none() | st.just(Path("/images/a.bin")),
            image_sha256=st.none() | st.just("00" * 32),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    backups=st.dictionaries(_TEXT, _TEXT, max_size=2),
    overrides=st.lists(_TEXT, max_size=2).map(tuple),
    mac=st.none() | _TEXT,
    provision=st.none() | st.just(Path("/p.toml")),
    current_limit=st.none() | st.floats(0, 10),
    operator=st.none() | _TEXT,
    rules=st.builds(
        Rules,
        retry=st.builds(Retry, attempts=st.integers(1, 10)),
        label=st.just(Label(template=Path("/l.zpl"), command=["lp", "{file}"])),
        park_image=st.none() | st.just(Path("/park.bin")),
    ),
    serials=st.builds(SerialRule, check_digit=st.sampled_from(["none", "luhn"])),
    scanned=st.booleans(),
    suite=st.none() | st.just(Path("/suite")),
    reboots=st.integers(0, 99),
    limits=st.dictionaries(_TEXT, st.builds(Limits, minimum=st.none() | st.floats(-1, 1)), max_size=2),
    bench=st.just("/bench.toml"),
    slots=st.lists(_TEXT, max_size=3).map(tuple),
)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(_JOBS)
def test_a_job_is_the_same_after_the_journal(job: Job) -> None:
    assert job_from_dict(json.loads(json.dumps(job_to_dict(job)))) == job


def test_what_is_on_record_has_no_secret_and_no_path_of_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rules = Rules(label=Label(template=Path("l.zpl")), park_image=Path("park.bin"))
    job = Job(
        ("1",),
        (Stage("convert", Path("a.bin")),),
        provision=Path("home.toml"),
        secrets=("hush-hush",),
        suite=Path("suite"),
        rules=rules,
        bench="bench.toml",
    )
    told = json.dumps(job_to_dict(job))
    assert "hush" not in told
    again = job_from_dict(json.loads(told))
    assert again.secrets == ()
    for path in (
        again.stages[0].image,
        again.provision,
        again.suite,
        again.rules.label.template,
        again.rules.park_image,
        Path(again.bench),
    ):
        assert path is not None
        assert path.parent == tmp_path


@pytest.mark.parametrize("told", [{}, {"units": ["1"], "stages": [], "foo": 1}, {"units": 3, "stages": []}])
def test_a_job_of_another_rig_is_told(told: dict[str, object]) -> None:
    with pytest.raises(UsageProblem, match="another version of rig"):
        job_from_dict(told)
