#!/usr/bin/env python3
"""Publishes one command and waits for its event: all that a service needs to know of the worker.

    pip install pika
    export AMQP_URL='amqp://guest:guest@127.0.0.1:5672/%2f'
    examples/publish.py refund_otp '{"tid": "13192443"}'
    examples/publish.py refund '{"tid": "13192443", "otp": "123456"}' --id ord-7731-refund
"""

import argparse
import json
import os
import sys
import uuid

import pika


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["refund_otp", "refund", "transfer_otp"])
    parser.add_argument("data", type=json.loads, help="the command's data, as JSON")
    parser.add_argument("--id", default=str(uuid.uuid4()), help="the idempotency key: the same id is the same command")
    parser.add_argument("--url", default=os.environ.get("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"))
    parser.add_argument("--prefix", default=os.environ.get("AMQP_PREFIX", "eko"))
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for the event")
    args = parser.parse_args()

    connection = pika.BlockingConnection(pika.URLParameters(args.url))
    channel = connection.channel()
    channel.confirm_delivery()  # a publish that returns is on the broker's disk
    # declared as the worker does, so that it does not matter who comes first
    channel.exchange_declare(f"{args.prefix}.commands", exchange_type="topic", durable=True)
    answers = channel.queue_declare("", exclusive=True).method.queue

    message_type = f"eko.{args.kind}.request"
    command = {"specversion": "1.0", "id": args.id, "source": "/examples", "type": message_type, "data": args.data}
    try:
        channel.basic_publish(
            exchange=f"{args.prefix}.commands",
            routing_key=message_type,
            body=json.dumps(command),
            properties=pika.BasicProperties(
                content_type="application/cloudevents+json",
                delivery_mode=pika.DeliveryMode.Persistent,
                reply_to=answers,  # the same event as in eko.events, for this sender alone
            ),
            mandatory=True,  # without it a mistyped routing key would lose the command in silence
        )
    except pika.exceptions.UnroutableError:
        print("no queue takes the command: is a worker running, with this prefix?", file=sys.stderr)
        return 1

    for _, _, event in channel.consume(answers, auto_ack=True, inactivity_timeout=args.timeout):
        if event is None:
            print("no event yet; it will be published to the events exchange", file=sys.stderr)
            return 1
        event = json.loads(event)
        print(json.dumps(event, indent=2))
        return 0 if event["type"].endswith(".succeeded") else 3
    return 1


if __name__ == "__main__":
    sys.exit(main())
