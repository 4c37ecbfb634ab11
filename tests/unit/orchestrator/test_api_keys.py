"""The file of keys, and finding the one that a call shows."""

from pathlib import Path

import pytest

from draftpool.errors import BadParameter, Unauthenticated
from orchestrator.api_keys import ApiKey, ApiKeys, KeyEntry, hash_of, new_key, read_keys, watched_keys

KEY = new_key()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_keys_are_256_random_bits_that_can_be_recognised() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("dp_") and len(key) == 3 + 43 and key.isascii() for key in keys)


def test_the_hash_is_sha256_in_hex_as_any_tool_writes_it() -> None:
    assert hash_of("test") == "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@pytest.mark.parametrize("shown", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} "])
def test_a_key_is_known_by_its_hash(shown: str) -> None:
    alice = ApiKey("alice", KeyEntry(sha256=hash_of(KEY)))
    bob = ApiKey("bob", KeyEntry(sha256=hash_of(new_key())))
    assert ApiKeys([alice, bob]).authenticate([("x-other", "y"), ("authorization", shown)]) is alice


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("x-api-key", KEY)],
        [("authorization", KEY)],
        [("authorization", f"Basic {KEY}")],
        [("authorization", b"Bearer " + KEY.encode())],
    ],
)
def test_a_call_that_shows_no_key_is_told_how(metadata: list) -> None:
    with pytest.raises(Unauthenticated, match="authorization: Bearer"):
        ApiKeys([ApiKey("alice", KeyEntry(sha256=hash_of(KEY)))]).authenticate(metadata)


@pytest.mark.parametrize("shown", [new_key(), "", KEY[:-1], KEY + "x", KEY.upper(), hash_of(KEY)])
def test_what_is_not_the_whole_key_is_not_known_nor_repeated(shown: str) -> None:
    keys = ApiKeys([ApiKey("alice", KeyEntry(sha256=hash_of(KEY)))])
    with pytest.raises(Unauthenticated) as refused:
        keys.authenticate([("authorization", f"Bearer {shown}")])
    assert str(refused.value) in ("this API key is not known here",)


def test_a_file_may_have_comments_limits_and_any_number_of_keys(tmp_path: Path) -> None:
    path = write(
        tmp_path / "keys.toml",
        f'# ours\n["team.a"]\nsha256 = "{hash_of(KEY)}"\nrequests_per_minute = 60\npriority = "batch"\n'
        f'[bob]\nsha256 = "{hash_of("b")}"\n',
    )
    keys = read_keys(path)
    assert len(keys) == 2
    entry = keys.authenticate([("authorization", f"Bearer {KEY}")]).entry
    assert (entry.requests_per_minute, entry.priority, entry.max_new_tokens) == (60, "batch", None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense", "is not TOML"),
        ('[a]\nsha256 = "geheim"', "a.sha256: "),
        ("[a]\nrequests_per_minute = 1", "a.sha256: Field required"),
        (f'[a]\nsha256 = "{"0" * 64}"\nrequest_per_minute = 1', "a.request_per_minute: Extra inputs"),
        (f'[a]\nsha256 = "{"0" * 64}"\nmax_new_tokens = 0', "a.max_new_tokens: "),
        (f'["a b"]\nsha256 = "{"0" * 64}"', "a b"),
        (f'[a]\nsha256 = "{"0" * 64}"\n[b]\nsha256 = "{"0" * 64}"', "two names have the same key"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadParameter) as refused:
        read_keys(write(tmp_path / "keys.toml", text))
    assert says in str(refused.value)
    assert "geheim" not in str(refused.value)


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "keys.toml", "")
    keys = watched_keys(path)
    assert len(keys.current()) == 0
    write(path, f'[alice]\nsha256 = "{hash_of(KEY)}"\n')
    assert keys.current().authenticate([("authorization", f"Bearer {KEY}")]).name == "alice"
    write(path, "# nobody any more")
    with pytest.raises(Unauthenticated):
        keys.current().authenticate([("authorization", f"Bearer {KEY}")])
