#!/usr/bin/env python3
"""Publishes one command and prints the event that tells its outcome: all that a service needs to know of the worker.

    pip install -r examples/python/requirements.txt
    export AMQP_URL='amqp://guest:guest@127.0.0.1:5672/%2f'
    examples/python/publish_and_subscribe.py refund_otp '{"tid": "13192470"}'
    examples/python/publish_and_subscribe.py refund '{"tid": "13192470", "otp": "123456"}' --id ord-7731-refund

Exit codes: 0 succeeded, 3 any other outcome, 1 where the command could not be published or nothing came of it in time.
"""

import argparse
import json
import os
import sys
import uuid

import pika


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["refund_otp", "refund", "transfer_otp"])
    parser.add_argument("data", type=json.loads, help="the command's data, as JSON")
    parser.add_argument("--id", default=str(uuid.uuid4()), help="the idempotency key: the same id is the same command")
    parser.add_argument("--times", type=int, default=1, help="publish it so often, as one does who is not sure; it is executed once")
    parser.add_argument("--url", default=os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"))
    parser.add_argument("--prefix", default=os.environ.get("AMQP_PREFIX", "eko"))
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for each event")
    return parser.parse_args()


def subscribe(channel, args) -> str:
    """A queue with the events of this kind. A service has a durable one with a name of its own, which keeps events while
    it is away: queue_declare("shop.eko-results", durable=True)."""
    channel.exchange_declare(f"{args.prefix}.events", exchange_type="topic", durable=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, f"{args.prefix}.events", f"eko.{args.kind}.*")
    return queue


def publish(channel, args) -> None:
    # declared as the worker does, so that it does not matter who comes first
    channel.exchange_declare(f"{args.prefix}.commands", exchange_type="topic", durable=True)
    message_type = f"eko.{args.kind}.request"
    command = {"specversion": "1.0", "id": args.id, "source": "/examples/python", "type": message_type, "data": args.data}
    channel.basic_publish(
        exchange=f"{args.prefix}.commands",
        routing_key=message_type,
        body=json.dumps(command),
        properties=pika.BasicProperties(
            content_type="application/cloudevents+json",
            delivery_mode=pika.DeliveryMode.Persistent,
        ),
        mandatory=True,  # without it a mistyped routing key would lose the command in silence
    )


def outcome(channel, queue, args) -> dict | None:
    """The event of our command; `None` where it does not come in time."""
    seen = {}  # a service has a table with a unique key here, written in the transaction that acts on the event
    deliveries = 0
    for delivery, _, body in channel.consume(queue, inactivity_timeout=args.timeout):
        if delivery is None:
            return None
        event = json.loads(body)
        if event["data"]["command_id"] == args.id:
            deliveries += 1
            if event["id"] in seen:
                print(f"told again, and passed over: {event['id']}", file=sys.stderr)
            else:
                seen[event["id"]] = event
        channel.basic_ack(delivery.delivery_tag)  # only now: what is not acknowledged comes again
        if deliveries == args.times:
            return next(iter(seen.values()))
    return None


def main() -> int:
    args = arguments()
    channel = pika.BlockingConnection(pika.URLParameters(args.url)).channel()
    channel.confirm_delivery()  # a publish that returns is on the broker's disk
    queue = subscribe(channel, args)  # before anything is published, so that nothing is missed
    try:
        for _ in range(args.times):
            publish(channel, args)
    except pika.exceptions.UnroutableError:
        print("no queue takes the command: did a worker ever run with this prefix?", file=sys.stderr)
        return 1
    event = outcome(channel, queue, args)
    if event is None:
        print("no event yet: it will come to whoever is bound then", file=sys.stderr)
        return 1
    print(json.dumps(event, indent=2))
    return 0 if event["type"].endswith(".succeeded") else 3


if __name__ == "__main__":
    sys.exit(main())
