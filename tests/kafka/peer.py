#!/usr/bin/env python3
"""A Kafka client that is not Pingeon's (librdkafka), for the tests: what one of the two writes, the other has to read.

Reads and writes one JSON object a line. Keys and values are bytes; in JSON each byte is the character of its number
(ISO 8859-1), so that nothing is lost and text stays readable. Every wait has an end; a failure is one line on standard
error and exit code 1.
"""

import argparse
import json
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

WITHIN_S = 60
EARLIEST = -2


class Failed(Exception):
    """For people."""


def main():
    options = arguments().parse_args()
    settings = {"bootstrap.servers": options.bootstrap, "socket.timeout.ms": 10_000, "log_level": 3}
    settings.update(pair.split("=", 1) for pair in options.set)
    try:
        options.run(options, settings)
    except (Failed, KafkaException) as failure:
        sys.exit(f"peer.py: {options.command}: {failure}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bootstrap", required=True, help="host:port, ...")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of librdkafka")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(run, name, *positional):
        added = commands.add_parser(name, help=run.__doc__)
        for argument in positional:
            added.add_argument(argument)
        added.set_defaults(run=run)
        return added

    added = command(ready, "ready")
    added.add_argument("--brokers", type=int, default=1)
    added.add_argument("--pid", type=int, action="append", default=[], help="give up when one of these has ended")
    added = command(create_topic, "create-topic", "topic")
    added.add_argument("--partitions", type=int, default=1)
    added.add_argument("--replicas", type=int, default=1)
    added.add_argument("--config", action="append", default=[], metavar="KEY=VALUE")
    command(delete_topic, "delete-topic", "topic")
    added = command(whole, "whole", "topic")
    added.add_argument("--replicas", type=int, default=1)
    added = command(produce, "produce", "topic")
    added.add_argument("--codec", default="none", help="none, gzip, snappy, lz4, zstd")
    added.add_argument("--transaction", metavar="ID", help="all in one transaction of this transactional id")
    added.add_argument("--abort", action="store_true", help="the transaction ends in nothing")
    added = command(consume, "consume", "topic")
    added.add_argument("--uncommitted", action="store_true", help="what open and aborted transactions wrote, too")
    added = command(leader, "leader", "topic", "partition")
    added.add_argument("--other-than", type=int, help="wait until it is not this one")
    command(committed, "committed", "group", "topic")
    return parser


def until(what, look):
    """The first answer of `look` that is not None."""
    end = time.monotonic() + WITHIN_S
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.05)
    raise Failed(f"waited {WITHIN_S} s in vain for {what}")


def ready(options, settings):
    """waits until so many brokers serve"""
    admin = AdminClient(settings)

    def look():
        for pid in options.pid:
            if not alive(pid):
                raise Failed(f"process {pid} has ended")
        try:
            brokers = admin.list_topics(timeout=1).brokers
        except KafkaException:
            return None
        return True if len(brokers) >= options.brokers else None

    until(f"{options.brokers} brokers", look)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def create_topic(options, settings):
    """makes a topic, and waits until every partition has a leader"""
    admin = AdminClient(settings)
    config = dict(pair.split("=", 1) for pair in options.config)
    topic = NewTopic(options.topic, options.partitions, options.replicas, config=config)
    admin.create_topics([topic], operation_timeout=WITHIN_S)[options.topic].result(WITHIN_S)
    until_whole(admin, options.topic, options.partitions, options.replicas)


def delete_topic(options, settings):
    """deletes a topic, and waits until it is gone"""
    admin = AdminClient(settings)
    admin.delete_topics([options.topic], operation_timeout=WITHIN_S)[options.topic].result(WITHIN_S)
    until("the topic to be gone", lambda: options.topic not in admin.list_topics(timeout=WITHIN_S).topics or None)


def whole(options, settings):
    """waits until each partition has a leader and so many replicas in sync"""
    until_whole(AdminClient(settings), options.topic, 1, options.replicas)


def until_whole(admin, topic, partitions_min, replicas):
    def look():
        try:
            partitions = partitions_of(admin, topic).values()
        except KafkaException:
            return None
        well = all(partition.leader >= 0 and len(partition.isrs) == replicas for partition in partitions)
        return True if well and len(partitions) >= partitions_min else None

    until("every partition to have a leader and its replicas", look)


def partitions_of(admin, topic):
    found = admin.list_topics(topic, timeout=10).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return found.partitions


def produce(options, settings):
    """writes standard input: {"key", "value", and if wanted "headers"} a line; prints where each lies"""
    settings = {"partitioner": "murmur2_random", "acks": "all", "linger.ms": 5, **settings}
    settings["compression.type"] = options.codec
    if options.transaction:
        settings["transactional.id"] = options.transaction
    producer = Producer(settings)
    if options.transaction:
        producer.init_transactions(WITHIN_S)
        producer.begin_transaction()
    records = [json.loads(line) for line in sys.stdin]
    delivered = send(producer, options.topic, records)
    if options.transaction and options.abort:
        producer.abort_transaction(WITHIN_S)
    elif options.transaction:
        producer.commit_transaction(WITHIN_S)
    for partition, offset in delivered:
        print(json.dumps({"partition": partition, "offset": offset}))


def send(producer, topic, records):
    """Partition and offset of each, in order; all of them, or a failure."""
    delivered = [None] * len(records)
    failures = []

    def reporter(index):
        def report(error, message):
            if error is None:
                delivered[index] = (message.partition(), message.offset())
            else:
                failures.append(str(error))

        return report

    for index, record in enumerate(records):
        headers = [(name, to_bytes(value)) for name, value in record.get("headers", {}).items()]
        key = to_bytes(record.get("key"))
        while True:
            try:
                producer.produce(topic, to_bytes(record["value"]), key, on_delivery=reporter(index), headers=headers)
                break
            except BufferError:
                producer.poll(1)
        producer.poll(0)
    producer.flush(WITHIN_S)
    if failures or None in delivered:
        raise Failed(f"{delivered.count(None)} of {len(records)} were not written: {failures[:1]}")
    return delivered


def consume(options, settings):
    """prints all that the topic holds now: {"partition", "offset", "timestamp", "key", "value"} a line"""
    isolation = "read_uncommitted" if options.uncommitted else "read_committed"
    settings = {**settings, "group.id": "peer", "enable.auto.commit": False, "enable.partition.eof": True}
    settings.update({"isolation.level": isolation, "check.crcs": True, "fetch.wait.max.ms": 20})
    partitions = list(partitions_of(AdminClient({"bootstrap.servers": options.bootstrap, **only_security(settings)}),
                                    options.topic))
    consumer = Consumer(settings)
    consumer.assign([TopicPartition(options.topic, partition, EARLIEST) for partition in partitions])
    unfinished = set(partitions)
    end = time.monotonic() + WITHIN_S
    while unfinished:
        if time.monotonic() > end:
            raise Failed(f"partitions {sorted(unfinished)} did not end within {WITHIN_S} s")
        for message in consumer.consume(1000, 0.2):
            if message.error() is None:
                print(json.dumps(as_json(message)))
            elif message.error().name() == "_PARTITION_EOF":
                unfinished.discard(message.partition())
            else:
                raise Failed(message.error())
    consumer.close()


def only_security(settings):
    return {name: value for name, value in settings.items() if name.startswith(("sasl.", "ssl.", "security."))}


def as_json(message):
    return {
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": message.timestamp()[1],
        "key": to_text(message.key()),
        "value": to_text(message.value()),
    }


def leader(options, settings):
    """prints the number of the broker that leads a partition"""
    admin = AdminClient(settings)

    def look():
        try:
            leads = partitions_of(admin, options.topic)[int(options.partition)].leader
        except (KafkaException, KeyError):  # a broker that has just started may not know the topic yet
            return None
        return None if leads < 0 or leads == options.other_than else leads

    print(until("a leader", look))


def committed(options, settings):
    """prints what a group has committed: {"partition", "offset"} a line, offset -1001 where it has nothing"""
    partitions = partitions_of(AdminClient(settings), options.topic)
    consumer = Consumer({**settings, "group.id": options.group})
    asked = [TopicPartition(options.topic, partition) for partition in partitions]
    for found in consumer.committed(asked, timeout=10):
        print(json.dumps({"partition": found.partition, "offset": found.offset}))
    consumer.close()


def to_bytes(text):
    return None if text is None else text.encode("latin-1")


def to_text(data):
    return None if data is None else data.decode("latin-1")


if __name__ == "__main__":
    main()
