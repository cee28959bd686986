// Reads an AsyncAPI document from stdin and validates it, bindings included. Whether its examples keep to its schemas
// the parser does not look at: tests/deploy does.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const wrong = diagnostics.filter(({ severity }) => severity <= 1); // errors and warnings
for (const { path, message } of wrong) console.error(`${path.join(".")}: ${message}`);
if (document) console.log(`${document.allMessages().all().length} messages, ${document.allOperations().all().length} operations`);
process.exit(document && !wrong.length ? 0 : 1);
