"""What must hold of the manifests as they are rendered: rendered.py FILE…

Schemas and policies say nothing of this: rates in all, names that fit, what a rollout and a drain of a node do.
"""

import sys

import yaml

PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
wrong = []


def expect(what, holds):
    if not holds:
        wrong.append(what)


def secrets_of(pod):
    """The names of all Secrets that a pod is given."""
    found = {volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
    for container in pod["containers"]:
        for variable in container.get("env", []):
            found.add(variable.get("valueFrom", {}).get("secretKeyRef", {}).get("name"))
    return found


def settings_of(file, deployment, of):
    """The worker's settings out of the ConfigMap that its pods name."""
    [source] = deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    name = source["configMapRef"]["name"]
    found = of("ConfigMap", deployment["metadata"]["namespace"], name)
    expect(f"{file}: there is no ConfigMap {name}", found)
    return found["data"] if found else {}


# A worker with fewer calls a second only waits for the others.
CALLS_EACH = 5


def scaled_within_the_rate(where, scaled, deployment, settings):
    spec, limit = scaled["spec"], int(settings.get("EKO_RATE_LIMIT", 0))
    surge = deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    workers = spec["maxReplicaCount"] + surge
    expect(f"{where}: {workers} workers share {limit} calls a second", workers * CALLS_EACH <= limit)
    expect(f"{where}: no fallback while the management API is away", spec.get("fallback"))
    for trigger in spec["triggers"]:
        prefix, kind = trigger["metadata"]["queueName"].rsplit(".", 1)
        expect(f"{where}: the queue of {kind} has the prefix {prefix}", prefix == settings["AMQP_PREFIX"])


def deployed(where, deployment, classes):
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    if "rollingUpdate" in spec["strategy"]:
        ready, stop = spec.get("minReadySeconds", 0), pod["terminationGracePeriodSeconds"]
        expect(f"{where}: the next worker is replaced after {ready} s, the last one may take {stop} s", ready >= stop)
        spread = {constraint["topologyKey"] for constraint in pod["topologySpreadConstraints"]}
        expect(f"{where}: spread over {spread}", {"kubernetes.io/hostname", "topology.kubernetes.io/zone"} <= spread)
        expect(f"{where}: there is no PriorityClass {pod.get('priorityClassName')}", pod.get("priorityClassName") in classes)


def reaches_what_is_named(where, policy):
    for rule in policy["spec"].get("egress", []):
        expect(f"{where}: {rule['ports']} are open to any address", rule.get("to"))
        for peer in rule.get("to", []):
            block = peer.get("ipBlock", {})
            if block.get("cidr") == "0.0.0.0/0":
                expect(f"{where}: the internet is meant, not {PRIVATE}", set(PRIVATE) <= set(block.get("except", [])))


def judge(file, documents, classes):
    def of(kind, namespace, name):
        for document in documents:
            meta = document["metadata"]
            if (document["kind"], meta.get("namespace"), meta["name"]) == (kind, namespace, name):
                return document
        return None

    prefixes = []
    for document in documents:
        kind, meta = document["kind"], document["metadata"]
        where = f"{file}: {kind} {meta.get('namespace')}/{meta['name']}"
        if kind == "Deployment" and meta["labels"].get("app.kubernetes.io/component") == "worker":
            prefixes.append(settings_of(file, document, of).get("AMQP_PREFIX"))
            deployed(where, document, classes)
        elif kind == "PodDisruptionBudget":
            expect(f"{where}: pods that are not ready hold up a drain", document["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow")
        elif kind == "NetworkPolicy":
            reaches_what_is_named(where, document)
        elif kind == "ScaledObject":
            target = document["spec"]["scaleTargetRef"]["name"]
            deployment = of("Deployment", meta["namespace"], target)
            expect(f"{where}: there is no Deployment {target}", deployment)
            if deployment:
                scaled_within_the_rate(where, document, deployment, settings_of(file, deployment, of))
                for trigger in document["spec"]["triggers"]:
                    name = trigger["authenticationRef"]["name"]
                    authentication = of("TriggerAuthentication", meta["namespace"], name)
                    expect(f"{where}: there is no TriggerAuthentication {name}", authentication)
                    keda = {secret["name"] for secret in (authentication or {"spec": {"secretTargetRef": []}})["spec"]["secretTargetRef"]}
                    shared = keda & secrets_of(deployment["spec"]["template"]["spec"])
                    expect(f"{where}: workers are given KEDA's Secret {shared}", not shared)
    expect(f"{file}: two accounts with one prefix: {prefixes}", len(set(prefixes)) == len(prefixes))
    return len(prefixes)


def main(files):
    rendered = {}
    for file in files:
        with open(file, encoding="utf-8") as stream:
            rendered[file] = [document for document in yaml.safe_load_all(stream) if document]
    classes = {document["metadata"]["name"] for documents in rendered.values() for document in documents if document["kind"] == "PriorityClass"}
    accounts = {file: judge(file, documents, classes) for file, documents in rendered.items()}
    expect(f"nowhere are two accounts beside each other: {accounts}", max(accounts.values()) >= 2)
    print("\n".join(wrong))
    return 1 if wrong else 0


sys.exit(main(sys.argv[1:]))
