"""Topics as they are created."""

from __future__ import annotations

from schemas.topics import DEAD_LETTERS, FOREVER, INPUTS, TOPICS, USAGE_EVENTS

BY_NAME = {topic.name: topic for topic in TOPICS}


def test_the_promised_topics_are_there() -> None:
    """Names that others rely on."""
    assert set(BY_NAME) == {
        "usage.events",
        "account.events",
        "catalog.versions",
        "usage.rated",
        "billing.events",
        "usage.dlq",
        "account.dlq",
        "audit.log",
        "holds.journal",
        "admission.denials",
    }


def test_a_customer_has_one_partition_number_everywhere() -> None:
    """All topics but those with one order have the deployment's number of partitions."""
    assert {name: topic.partition_count(8) for name, topic in BY_NAME.items()} == {
        **dict.fromkeys(BY_NAME, 8),
        "catalog.versions": 1,
        "audit.log": 1,
        "admission.denials": 1,
    }


def test_inputs_are_stamped_by_the_broker() -> None:
    """A producer's clock is not what the bound on the future is measured against."""
    for name in INPUTS:
        assert dict(BY_NAME[name].configs)["message.timestamp.type"] == "LogAppendTime"


def test_what_money_rests_on_is_kept_for_ever() -> None:
    """Only usage events, notifications of others and what admission tells grow old."""
    kept = {name for name, topic in BY_NAME.items() if dict(topic.configs)["retention.ms"] == FOREVER}
    assert kept == set(BY_NAME) - {USAGE_EVENTS, "billing.events", "holds.journal", "admission.denials"}
    assert dict(BY_NAME[USAGE_EVENTS].configs)["retention.ms"] == str(30 * 24 * 60 * 60 * 1000)


def test_a_dead_letter_holds_what_an_input_could() -> None:
    """Its topic takes more than the input that it came from."""
    for source, dead in DEAD_LETTERS.items():
        bounds = [int(dict(BY_NAME[name].configs)["max.message.bytes"]) for name in (source, dead)]
        assert bounds == [4 * 1024 * 1024, 5 * 1024 * 1024]
