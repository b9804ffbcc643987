"""Whether what we depend on may be shipped, comes once, and leaves the demo's broker out of production.

Reads Cargo.lock's packages by cargo, offline. Every exception is named here with its reason, and one that is no
longer needed is an error too, so that the lists stay true.
"""

import json
import re
import subprocess
import sys

TARGET = "x86_64-unknown-linux-gnu"

ALLOWED = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT",
    "MPL-2.0", "Unicode-3.0", "Unlicense", "Zlib",
}  # fmt: skip

# Only widens what the licence before WITH allows.
ALLOWED_EXCEPTIONS = {"LLVM-exception"}

# One crate each, and why.
EXCEPTIONS = {
    ("inferno", "CDDL-1.0"): "used unchanged from the registry: its licence asks no more than to say where its source is",
}

# Crates whose licence is a file and not an expression, by version, and what it says.
IN_A_FILE = {
    ("ring", "0.16.20"): "ISC, and OpenSSL's for what is from BoringSSL; below `rocketmq`, which only who asks for it gets",
}

# Crates that the production program has in two versions, and who holds back.
DUPLICATES = {
    "base64": "hyper-util, below reqwest, is on 0.23, which is too new for others",
    "getrandom": "ring is on 0.2",
    "syn": "prost-derive is on 2; it runs in the compiler alone",
}

# What only the demo may bring, and what of it only the demo on official brokers.
NOT_IN_PRODUCTION = ["rumqttd", "rumqttc", "spanprof-demo", "tracing-opentelemetry"]
ONLY_ON_OFFICIAL_BROKERS = ["rdkafka", "rocketmq", "spanprof-brokers", "spanprof-messaging"]


def is_allowed(expression, allowed):
    """Whether an SPDX expression can be satisfied.

    >>> is_allowed("MIT OR GPL-3.0-only", {"MIT"}), is_allowed("MIT AND GPL-3.0-only", {"MIT"})
    (True, False)
    >>> is_allowed("MIT AND (ISC OR GPL-2.0-only)", {"MIT", "ISC"})
    True
    >>> is_allowed("GPL-2.0-only OR MIT AND ISC", {"MIT", "GPL-2.0-only"})
    True
    >>> is_allowed("MIT/Apache-2.0", {"Apache-2.0"}), is_allowed("MIT / Apache-2.0", {"MIT"})
    (True, True)
    >>> is_allowed("Apache-2.0 WITH LLVM-exception", {"Apache-2.0"})
    True
    >>> is_allowed("Apache-2.0 WITH Unknown-exception", {"Apache-2.0"})
    False
    >>> is_allowed("LGPL-2.1-or-later", {"MIT"}), is_allowed("", {"MIT"}), is_allowed(None, {"MIT"})
    (False, False, False)
    >>> is_allowed("MIT OR", {"MIT"}), is_allowed("(MIT", {"MIT"}), is_allowed("MIT ISC", {"MIT", "ISC"})
    (False, False, False)
    """
    words = re.findall(r"[()]|[^\s()]+", (expression or "").replace("/", " OR "))
    words.reverse()

    def atom():
        word = words.pop()
        if word == "(":
            value = either()
            if words.pop() != ")":
                raise IndexError
            return value
        value = word in allowed
        if words and words[-1] == "WITH":
            words.pop()
            value &= words.pop() in ALLOWED_EXCEPTIONS
        return value

    def both():
        value = atom()
        while words and words[-1] == "AND":
            words.pop()
            value &= atom()
        return value

    def either():
        value = both()
        while words and words[-1] == "OR":
            words.pop()
            value |= both()
        return value

    try:
        return either() and not words
    except IndexError:
        return False


def cargo(*arguments):
    command = ["cargo", *arguments, "--locked", "--offline"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def licence_faults():
    packages = json.loads(cargo("metadata", "--all-features", "--format-version", "1", "--filter-platform", TARGET))["packages"]
    unused = set(EXCEPTIONS) | set(IN_A_FILE)
    for package in packages:
        name, licence = package["name"], package["license"]
        if licence is None and (name, package["version"]) in IN_A_FILE:
            unused -= {(name, package["version"])}
            continue
        granted = {granted_licence for crate, granted_licence in EXCEPTIONS if crate == name}
        if is_allowed(licence, ALLOWED):
            continue
        unused -= {(name, granted_licence) for granted_licence in granted}
        if not is_allowed(licence, ALLOWED | granted):
            yield f"{name} {package['version']}: the licence {licence!r} is not allowed"
    for name, licence in sorted(unused):
        yield f"{name}: the exception for {licence} is not needed any more"
    print(f"{len(packages)} packages with their licences looked at")


def production(*arguments):
    """The crates of the production program, as pairs of name and version."""
    tree = cargo("tree", "-p", "spanprof-agent", "--edges", "normal", "--target", TARGET, "--prefix", "none", *arguments)
    return {tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()}


def production_faults():
    crates = production()
    twice = {name for name, version in crates if sum(name == other for other, _ in crates) > 1}
    for name in sorted(twice - set(DUPLICATES)):
        versions = ", ".join(sorted(version for other, version in crates if other == name))
        yield f"{name}: the program has it more than once: {versions}"
    for name in sorted(set(DUPLICATES) - twice):
        yield f"{name}: comes once now; take it off the list of duplicates"
    names = {name for name, _ in crates}
    for name in NOT_IN_PRODUCTION + ONLY_ON_OFFICIAL_BROKERS:
        if name in names:
            yield f"{name}: only the demo may need it, but a build without the demo has it"
    demo = {name for name, _ in production("--features", "demo")}
    if not set(NOT_IN_PRODUCTION) <= demo:
        yield "the demo does not have what production is said to leave out: correct the list"
    for name in ONLY_ON_OFFICIAL_BROKERS:
        if name in demo:
            yield f"{name}: only the demo on official brokers may need it, but the plain demo has it"
    if not set(ONLY_ON_OFFICIAL_BROKERS) <= {name for name, _ in production("--features", "demo-rocketmq,demo-kafka")}:
        yield "the demo on official brokers does not have what the plain one is said to leave out: correct the list"
    print(f"{len(crates)} crates in the production program, {len(twice)} of them in two versions")


def main():
    faults = [*licence_faults(), *production_faults()]
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
