#!/usr/bin/env node
// Publishes one command and prints the event that tells its outcome: all that a service needs to know of the worker.
//
//     npm ci --prefix examples/node
//     export AMQP_URL='amqp://guest:guest@127.0.0.1:5672/%2f'
//     examples/node/publish_and_subscribe.mjs refund_otp '{"tid": "13192470"}'
//     examples/node/publish_and_subscribe.mjs refund '{"tid": "13192470", "otp": "123456"}' --id ord-7731-refund
//
// Exit codes: 0 succeeded, 3 any other outcome, 1 where the command could not be published or nothing came of it in time.
import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import amqp from "amqplib";

const { values: given, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    id: { type: "string", default: randomUUID() }, // the idempotency key: the same id is the same command
    times: { type: "string", default: "1" }, // publish it so often, as one does who is not sure; it is executed once
    url: { type: "string", default: process.env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/%2f" },
    prefix: { type: "string", default: process.env.AMQP_PREFIX ?? "eko" },
    timeout: { type: "string", default: "60" }, // seconds to wait for the outcome
  },
});
const [kind, data] = positionals;
const kinds = ["refund_otp", "refund", "transfer_otp"];
if (!kinds.includes(kind) || data === undefined) {
  console.error(`usage: publish_and_subscribe.mjs KIND DATA [--id ID] …, where KIND is one of ${kinds.join(", ")}`);
  process.exit(2);
}
const [commands, events] = [`${given.prefix}.commands`, `${given.prefix}.events`];

// A queue with the events of this kind. A service has a durable one with a name of its own, which keeps events while it
// is away: assertQueue("shop.eko-results", { durable: true }).
async function subscribe(channel) {
  await channel.assertExchange(events, "topic", { durable: true });
  const { queue } = await channel.assertQueue("", { exclusive: true });
  await channel.bindQueue(queue, events, `eko.${kind}.*`);
  return queue;
}

async function publish(channel) {
  // declared as the worker does, so that it does not matter who comes first
  await channel.assertExchange(commands, "topic", { durable: true });
  const type = `eko.${kind}.request`;
  const command = { specversion: "1.0", id: given.id, source: "/examples/node", type, data: JSON.parse(data) };
  let returned = false;
  channel.on("return", () => (returned = true)); // which comes before the confirm
  channel.publish(commands, type, Buffer.from(JSON.stringify(command)), {
    contentType: "application/cloudevents+json",
    persistent: true,
    mandatory: true, // without it a mistyped routing key would lose the command in silence
  });
  await channel.waitForConfirms(); // the broker has it on disk
  if (returned) throw new Error("no queue takes the command: did a worker ever run with this prefix?");
}

// The event of our command.
function outcome(channel, queue) {
  const seen = new Map(); // a service has a table with a unique key here, written in the transaction that acts on the event
  let deliveries = 0;
  return new Promise((resolve, reject) => {
    const late = () => reject(new Error("no event yet: it will come to whoever is bound then"));
    const timer = setTimeout(late, Number(given.timeout) * 1000);
    channel.consume(queue, (message) => {
      const event = JSON.parse(message.content.toString());
      if (event.data.command_id === given.id) {
        deliveries += 1;
        if (seen.has(event.id)) console.error(`told again, and passed over: ${event.id}`);
        else seen.set(event.id, event);
      }
      channel.ack(message); // only now: what is not acknowledged comes again
      if (deliveries === Number(given.times)) {
        clearTimeout(timer);
        resolve([...seen.values()][0]);
      }
    }).catch(reject);
  });
}

const connection = await amqp.connect(given.url);
try {
  const channel = await connection.createConfirmChannel();
  const queue = await subscribe(channel); // before anything is published, so that nothing is missed
  for (let time = 0; time < Number(given.times); time += 1) await publish(channel);
  const event = await outcome(channel, queue);
  console.log(JSON.stringify(event, null, 2));
  process.exitCode = event.type.endsWith(".succeeded") ? 0 : 3;
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await connection.close();
}
