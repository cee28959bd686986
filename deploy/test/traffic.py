"""Publishes commands of every kind and fate for a while, so that every panel of the dashboard has something to show.

traffic.py SECONDS: broker and prefix by AMQP_URL and AMQP_PREFIX, the stand-in for Eko by SIMULATOR.
"""

import json
import os
import random
import sys
import time
import urllib.request

import pika

PREFIX = os.environ["AMQP_PREFIX"]
SIMULATOR = os.environ["SIMULATOR"]
# Tids whose refund is answered otherwise than well, by the simulator's own table: refused, wrong code, claimed
# without evidence, on hold for good, executed behind a 502, silent once.
REFUNDS = ["{n}"] * 60 + ["993471{n}", "999990{n}", "977030{n}", "977100{n}", "975021{n}", "976521{n}"]
# Of OTPs: refused, 503 twice, the bank not available for good.
OTPS = ["{n}"] * 60 + ["993461{n}", "995032{n}", "995440{n}"]


def control(path, body=None, method="POST"):
    """One call of the simulator's control endpoint."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(SIMULATOR + path, data, {"content-type": "application/json"}, method=method)
    urllib.request.urlopen(request, timeout=5).close()


class Publisher:
    """A channel, a count and the chance that one seed gives."""

    def __init__(self):
        self.channel = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"])).channel()
        self.chance = random.Random(7)
        self.count = 0

    def send(self, kind, data, raw=None, **attributes):
        """Publishes one command; `raw` replaces its body."""
        self.count += 1
        command = {"id": f"cmd-{self.count}", "type": f"eko.{kind}.request", "data": data, **attributes}
        properties = pika.BasicProperties(content_type="application/json", delivery_mode=2, timestamp=int(time.time()))
        self.channel.basic_publish(f"{PREFIX}.commands", command["type"], raw or json.dumps(command), properties)

    def tid(self, forms):
        """A new tid of one of the forms."""
        return self.chance.choice(forms).format(n=100_000 + self.count)

    def once(self):
        """One of everything that ends well or badly by itself."""
        otp = self.chance.choice(["123456"] * 9 + ["000000"])
        self.send("refund", {"tid": self.tid(REFUNDS), "otp": otp})
        self.send("refund_otp", {"tid": self.tid(OTPS)})
        recipient = {"recipient_id": self.tid(OTPS), "amount": 500, "customer_id": "9123456789"}
        self.send("transfer_otp", recipient)

    def oddities(self):
        """What is no command, comes twice or comes too late."""
        self.send("refund", {"tid": "1", "otp": "12"})
        self.send("refund", {}, raw="{no json")
        self.send("refund_otp", {"tid": "77"}, id="cmd-twice")
        self.send("refund_otp", {"tid": "78"}, expirytime="2026-01-01T00:00:00Z")


def main():
    publisher = Publisher()
    begun, seconds = time.monotonic(), float(sys.argv[1])
    trouble, subscribed = False, False
    while (now := time.monotonic() - begun) < seconds:
        publisher.once()
        if publisher.count % 150 < 3:
            publisher.oddities()
        # the first events find no subscriber
        if not subscribed and now / seconds > 0.2:
            subscribed = True
            queue = publisher.channel.queue_declare("", exclusive=True, arguments={"x-max-length": 10}).method.queue
            publisher.channel.queue_bind(queue, f"{PREFIX}.events", "#")
        # for a while in the middle, Eko refuses one kind's keys, so that it is paused
        if trouble != (0.4 < now / seconds < 0.55):
            trouble = not trouble
            if trouble:
                control("/control/fault", {"endpoint": "transfer_otp", "fault": "http_403"})
            else:
                control("/control/faults", method="DELETE")
        publisher.channel.connection.sleep(0.15)
    print(f"{publisher.count} messages published")


main()
