// Reads rendered manifests from stdin and validates what Kubernetes' own schemas do not know: KEDA's and the
// Prometheus operator's resources. A kind that nobody here can judge is an error, too.
import { readFileSync } from "node:fs";
import { parseAllDocuments } from "yaml";

const models = {
  "keda.sh/v1alpha1": await import("@kubernetes-models/keda/keda.sh/v1alpha1"),
  "monitoring.coreos.com/v1": await import("@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1"),
};
const own = /^(v1|apps\/v1|policy\/v1|networking\.k8s\.io\/v1|scheduling\.k8s\.io\/v1)$/;

let wrong = 0;
let judged = 0;
for (const document of parseAllDocuments(readFileSync(0, "utf8"))) {
  const { apiVersion, kind, metadata, ...rest } = document.toJS();
  if (own.test(apiVersion)) continue;
  const Model = models[apiVersion]?.[kind];
  try {
    if (!Model) throw new Error(`no schema for ${apiVersion}`);
    new Model({ metadata, ...rest }).validate();
    judged += 1;
  } catch (error) {
    console.error(`${kind}/${metadata?.name}: ${error.message}`);
    wrong += 1;
  }
}
console.log(`${judged} custom resources valid, ${wrong} wrong`);
process.exit(wrong ? 1 : 0);
